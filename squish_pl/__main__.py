"""`python -m squish_pl`: the command `squish`."""

import sys

from squish_pl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
