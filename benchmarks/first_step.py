"""Seconds from the command to the first optimizer step, all imports and stores included."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.figures import Figure, print_figures

PROGRAM = """
import sys, time
started = float(sys.argv[1])
import transformers
class First(transformers.TrainerCallback):
    def on_step_end(self, *_, **__):
        print("FIRST", time.time() - started, file=sys.__stdout__, flush=True)
        import os
        os._exit(0)
original = transformers.Trainer.__init__
def patched(self, *args, callbacks=None, **kwargs):
    original(self, *args, callbacks=[*(callbacks or []), First()], **kwargs)
transformers.Trainer.__init__ = patched
from embedsweep.cli import main
main(["train"])
"""


def measure() -> float:
    command = [sys.executable, "-c", PROGRAM, str(time.time())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next(line for line in done.stdout.splitlines() if line.startswith("FIRST"))
    return float(line.split()[1])


if __name__ == "__main__":
    measure()  # builds the tiny model and the store, once per machine
    print_figures(Figure("command to first training step", min(measure() for _ in range(2)), 12.0, "s"))
