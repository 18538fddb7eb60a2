"""Entry point: python lightning_cli.py {fit,validate,predict,score,compare}; --help tells more."""

import sys

from squish_pl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
