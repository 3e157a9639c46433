"""Files of a trial's folder: its configuration, its result and the log of its training."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import yaml

from embedsweep.config.result import Emissions, RunContext, TrialResult
from embedsweep.config.trial import TrialConfig
from embedsweep.files import write_atomically
from embedsweep.secrets import RedactingFilter, redact_tree

RESULT_FILE = "result.json"


def write_config(path: Path, config: TrialConfig) -> None:
    """Write a trial's configuration, secrets redacted."""
    # The JSON round trip turns tuples into lists, which YAML can write plainly.
    tree = redact_tree(json.loads(json.dumps(asdict(config))))
    write_atomically(path, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))


def write_result(folder: Path, result: TrialResult) -> None:
    """Write a trial's result, as its last file: a trial with a result is complete and recorded."""
    write_atomically(folder / RESULT_FILE, json.dumps(asdict(result), indent=1), durable=True)


def read_result(folder: Path) -> TrialResult | None:
    """Return the result of the trial in ``folder``; None if it was not completed."""
    path = folder / RESULT_FILE
    return result_of(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def result_of(tree: Mapping[str, Any]) -> TrialResult:
    """Return the result that ``asdict`` and JSON made a tree of."""
    emissions = Emissions.of(tree["emissions"])
    curve = {name: [(int(step), value) for step, value in points] for name, points in tree.get("curve", {}).items()}
    interval = tuple(tree["interval"]) if tree.get("interval") else None
    context = RunContext(**tree["context"]) if tree.get("context") else None
    # Older versions wrote no examples_per_s.
    parts = {"emissions": emissions, "curve": curve, "interval": interval, "context": context}
    return TrialResult(**{"examples_per_s": None, **tree, **parts})


FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _LogFile(logging.FileHandler):
    """A log file. A full disk may end training, but not by way of the log, where the error would be logged again."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's own name
        """Drop the record."""


class _LoggingStream(io.TextIOBase):
    """A text stream that logs its lines.

    Where a program trains in a thread, what its main thread prints meanwhile is the program's own: it goes to the
    stream that was there before.

    Args:
        logger: logs the lines.
        level: their level.
        former: the stream that was there before.
    """

    def __init__(self, logger: logging.Logger, level: int, former: TextIO) -> None:
        self._logger = logger
        self._level = level
        self._former = former
        self._is_in_thread = not _is_main_thread()

    def write(self, text: str) -> int:
        if self._is_in_thread and _is_main_thread():
            return self._former.write(text)
        for line in text.splitlines():
            if line.strip():
                self._logger.log(self._level, line.rstrip())
        return len(text)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def train_log(path: Path) -> Iterator[None]:
    """Append everything logged, warned or printed inside the block to ``path``, secrets redacted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(RedactingFilter())
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    _take_over_library_loggers()
    logging.captureWarnings(True)
    output = logging.getLogger("output")
    streams = (
        _LoggingStream(output, logging.INFO, sys.stdout),
        _LoggingStream(output, logging.WARNING, sys.stderr),
    )
    try:
        with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
            yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
        with suppress(OSError):
            handler.close()


def _take_over_library_loggers() -> None:
    """Remove the libraries' own handlers and progress bars, which write to the terminal."""
    import datasets
    import transformers

    transformers.utils.logging.disable_default_handler()
    transformers.utils.logging.enable_propagation()
    transformers.utils.logging.set_verbosity_info()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for name in ("datasets", "huggingface_hub", "accelerate", "sentence_transformers", "optuna", "codecarbon"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # They log every file of every download, and nothing about the trial.
    for name in ("httpx", "httpcore", "urllib3", "filelock", "fsspec"):
        logging.getLogger(name).setLevel(logging.WARNING)
