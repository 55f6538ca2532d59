"""Run the `hopmin` command as `python -m hopmin`."""

import sys

from hopmin.cli import main

if __name__ == "__main__":
    sys.exit(main())
