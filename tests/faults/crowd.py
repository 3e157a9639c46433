"""Several commands that begin at the same instant, in one process after another of its own folder.

    python crowd.py < rounds.json

``rounds.json`` is a list of rounds, each ``[folder, [words of a command, ...]]``. All libraries are loaded once and the
commands are forked from there: none is ahead by what its imports took, and twenty rounds cost one start of Python.
Each command writes ``FOLDER/N.out``; what is printed is a list of each round's exit codes, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

HEAD_START_S = 0.3


def main() -> int:
    """Runs the rounds, one after another."""
    rounds: list[tuple[str, list[list[str]]]] = json.load(sys.stdin)
    _load()
    codes = []
    for folder, commands in rounds:
        Path(folder).mkdir(parents=True)
        begin = time.monotonic() + HEAD_START_S
        children = [_fork(Path(folder), number, words, begin) for number, words in enumerate(commands)]
        codes.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    print(json.dumps(codes))
    return 0


def _load() -> None:
    from embedsweep.machine import prepare_process

    prepare_process("cpu")
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    import embedsweep.cli
    import embedsweep.commands.single
    import embedsweep.commands.sweep
    import embedsweep.training.train  # noqa: F401


def _fork(folder: Path, number: int, words: list[str], begin: float) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.chdir(folder)
        out = os.open(f"{number}.out", os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(out, stream)
        from embedsweep.cli import main as command

        time.sleep(max(0.0, begin - time.monotonic()))
        code = command(["train", *words])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
