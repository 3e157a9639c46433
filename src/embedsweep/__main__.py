"""``python -m embedsweep`` is the ``embedsweep`` command."""

import sys

from embedsweep.cli import main

if __name__ == "__main__":
    sys.exit(main())
