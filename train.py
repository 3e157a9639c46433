"""The app: ``python train.py`` for one run, ``python train.py -m loss=mnrl,cosent`` for a study."""

import sys

from embedsweep.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
