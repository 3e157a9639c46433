"""``embedsweep train`` as another machine runs it, for a child process of a test.

    python machine.py NAME ACTION PLACE train-words...

NAME is the host's name, and its kernel's. ACTION and PLACE are those of ``driver.py``, or ``-`` for no fault. A machine
that is silent counts as dead after seconds, and trains slowly, so that what it does beside training can keep up.
"""

from __future__ import annotations

import runpy
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEAT_EVERY_S, SILENT_FOR_S = 0.5, 4.0
STEP_S = 0.1


def main() -> int:
    """Run the command on its machine; return its exit code."""
    name, action, place, *words = sys.argv[1:]
    become(name)
    if action == "-":
        from embedsweep.cli import main as command

        return command(["train", *words])
    driver: Callable[[], int] = runpy.run_path(str(Path(__file__).with_name("driver.py")))["main"]
    sys.argv = ["driver.py", action, place, *words]
    return driver()


def become(name: str) -> None:
    """Give this process another host name and kernel."""
    from embedsweep import lease
    from embedsweep.study import leases
    from embedsweep.training import shared_checkpoints
    from embedsweep.workers import worker

    socket.gethostname = lambda: name
    lease._system = lambda: f"kernel of {name}"  # type: ignore[assignment]
    for module in (leases, worker):
        vars(module)["BEAT_EVERY_S"] = BEAT_EVERY_S
    leases.SILENT_FOR_S = SILENT_FOR_S
    shared_checkpoints.EVERY_S = 0.1
    from transformers.trainer_callback import CallbackHandler

    original = CallbackHandler.on_step_end

    def slowly(*args: Any) -> Any:
        time.sleep(STEP_S)
        return original(*args)

    CallbackHandler.on_step_end = slowly


if __name__ == "__main__":
    sys.exit(main())
