"""Run mutated commands, or an audit of mutated data files, in one process: ``python -m tests.fuzz.run KIND FIRST N``.

KIND is ``commands`` or ``data``. Training, loading models and serving pages are replaced; what comes before is run. It
prints each case that did not end with exit code 0 or 2, or that took too long, and ends with exit code 1 if there is
one. Runs in the working directory, which should be empty; FUZZ_SEED makes other cases.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from embedsweep.cli import main as run_command
from embedsweep.errors import ConfigError
from tests.fuzz.mutations import command, data_files, whole_files

SEED = int(os.environ.get("FUZZ_SEED", "0"))
LONGEST_S = 30
MEMORY = 12 * 2**30  # bytes of addresses, of which libraries reserve more than they use


class _TooLongError(BaseException):
    """A case took longer than `LONGEST_S`."""


def main() -> int:
    """Run the cases of the arguments and return 1 if one of them is wrong."""
    kind, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _raise_too_long)
    _replace_what_takes_long()
    _make_folders()
    kept = set(Path.cwd().iterdir())
    wrong = 0
    for number in range(first, first + count):
        words = command(number, SEED) if kind == "commands" else _data_command(number)
        reason = _reason(words)
        _clean(kept)
        if reason is not None:
            wrong += 1
            print(f"case {number}: {words!r}: {reason}", flush=True)
    return int(wrong > 0)


def _raise_too_long(_: int, frame: FrameType | None) -> None:
    raise _TooLongError(f"took more than {LONGEST_S} s, in {frame.f_code.co_qualname if frame else '?'}")


def _reason(words: list[str]) -> str | None:
    """Return what is wrong with the end of a command; None if it ended as it should."""
    output = io.StringIO()
    signal.alarm(LONGEST_S)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code: Any = run_command(words)
    except SystemExit as error:
        code = error.code
    except (Exception, _TooLongError):
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    text = output.getvalue()
    if "Traceback" in text:
        return f"printed a traceback: {text}"
    return None if code in (0, 2) else f"ended with {code}: {text}"


def _data_command(number: int) -> list[str]:
    option, files, settings = data_files(number, SEED)
    folder = Path(f"data-{number}")
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return ["audit", f"data={option}", f"data.path={folder}", *settings]


def _make_folders() -> None:
    """Make what the commands name: a folder of data, and one of a model."""
    from embedsweep.models.tiny import tiny_model_path

    shutil.copytree(tiny_model_path(), "model")
    Path("model/README.md").write_text("---\nlanguage: es\n---\n# A model\n", encoding="utf-8")
    Path("pairs").mkdir()
    for option in ("csv", "jsonl"):
        for name, content in whole_files(option).items():
            Path("pairs", name).write_bytes(content)


def _clean(kept: set[Path]) -> None:
    """Remove what a command wrote, so that each one finds the same folder."""
    for path in set(Path.cwd().iterdir()) - kept:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _replace_what_takes_long() -> None:
    from embedsweep.commands import encode, evaluate, publish, similarity, single, sweep, tracking

    def reached(*_: object, **__: object) -> Any:
        raise ConfigError.single("fuzz", "the command would have begun its work")

    real_sweep = sweep.run_sweep

    def preview(request: Any, *more: Any, **flags: Any) -> int:
        return real_sweep(request, *more, **flags) if request.study.dry_run is True else 0

    replaced: Mapping[ModuleType, Mapping[str, Callable[..., Any]]] = {
        single: {"run_single": lambda request, *_: single.EndedRun("0", Path(), request.config, None)},
        sweep: {"run_sweep": preview},
        tracking: {"open_ui": lambda *_: 0},
        publish: {"_api": reached},
        **{module: {"load_model": reached} for module in (encode, evaluate, similarity)},
    }
    for module, functions in replaced.items():
        for name, function in functions.items():
            setattr(module, name, function)


if __name__ == "__main__":
    sys.exit(main())
