"""``python -m spd`` is the command ``spd``."""

import sys

from spd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
