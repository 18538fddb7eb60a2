"""Entry point in a checkout, the same as the command `squish`; --help tells more."""

import sys

from squish_pl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
