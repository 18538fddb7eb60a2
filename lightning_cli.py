"""Entry point: python lightning_cli.py {fit,validate,predict} --config NAME, or score."""

import sys

from squish_pl.cli import main

if __name__ == "__main__":
    sys.exit(main())
