"""``python -m embedsweep`` is the ``embedsweep`` command."""

import sys

from embedsweep.signals import hold_until_begun

if __name__ == "__main__":
    hold_until_begun()  # before imports that take seconds
    from embedsweep.cli import main

    sys.exit(main())
