"""`python -m hopmin` is the `hopmin` command."""

import sys

from hopmin.cli import main

if __name__ == "__main__":
    sys.exit(main())
