"""Run what a command does inside a program or a notebook, and leave its process as it was."""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from embedsweep.environment import drop_empty, drop_launcher, launcher_problem
from embedsweep.errors import ConfigError, EmbedsweepError, Problem, printable
from embedsweep.secrets import redact
from embedsweep.signals import keyboard_interrupts

P = ParamSpec("P")
T = TypeVar("T")

_training = threading.Lock()


@contextmanager
def guest() -> Iterator[None]:
    """Train inside the block, one call at a time, and restore what training changes for a whole process.

    Restored are environment variables, loggers that the program had before, warning filters and signal handlers.
    Random states are not: training seeds Python's, NumPy's and torch's. The progress bars of transformers and datasets
    stay off.

    Raises:
        EmbedsweepError: another call trains in this process.
        ConfigError: torchrun started this program several times.
        KeyboardInterrupt: Ctrl-C, or a notebook's stop button; what was begun can be resumed.
    """
    if not _training.acquire(blocking=False):
        raise EmbedsweepError(
            "another call of embedsweep trains in this process: wait for its end, or start this one in a process of "
            "its own. For trials at the same time, sweep with workers=local"
        )
    try:
        with _same_environment(), _same_loggers(), warnings.catch_warnings(), keyboard_interrupts():
            warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm, in a notebook without ipywidgets
            drop_empty(os.environ)
            if (problem := launcher_problem(os.environ)) is not None:
                raise ConfigError([problem])
            drop_launcher(os.environ)
            yield
    finally:
        _training.release()


@contextmanager
def _same_environment() -> Iterator[None]:
    former = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - former.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in former.items() if os.environ.get(name) != value})


@contextmanager
def _same_loggers() -> Iterator[None]:
    """Restore the loggers that there were; those of libraries that were imported inside are left to the root's level.

    transformers is made to log every step's figures for the trial's log; a notebook wants only its warnings.
    """
    former = {each: (each.level, each.handlers[:], each.propagate) for each in _loggers()}
    try:
        yield
    finally:
        for logger in _loggers():
            if logger in former:
                logger.level, logger.handlers[:], logger.propagate = former[logger]
            elif logger.level < logging.WARNING:
                logger.level = logging.NOTSET
        logging.Logger.manager._clear_cache()  # type: ignore[attr-defined]  # of what is enabled, as setLevel does


def _loggers() -> list[logging.Logger]:
    known = logging.Logger.manager.loggerDict.values()
    return [logging.getLogger(), *(each for each in known if isinstance(each, logging.Logger))]


def check_one_gpu(device: str) -> None:
    """Check that a trial will train on one GPU: which ones a process sees is decided when it first uses one.

    Args:
        device: ``trainer.device``.

    Raises:
        EmbedsweepError: this process has used a GPU before and sees several, over which each batch would be spread.
    """
    torch = sys.modules.get("torch")
    if torch is None or device in ("cpu", "mps") or not torch.cuda.is_initialized():
        return
    if (count := torch.cuda.device_count()) > 1:
        raise EmbedsweepError(
            f"this process has used a GPU before this call and sees {count}, and a trial trains on one: set "
            "CUDA_VISIBLE_DEVICES=0 before torch is imported, or sweep with workers=local"
        )


def readable(function: Callable[P, T]) -> Callable[P, T]:
    """Make a public function raise its errors without secrets, and without the frames of this package."""

    @functools.wraps(function)
    def calling(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except ConfigError as error:
            shown = [Problem(printable(redact(each.where)), printable(redact(each.message))) for each in error.problems]
            raise ConfigError(shown) from None
        except EmbedsweepError as error:
            error.args = (printable(redact(str(error))),)
            raise error.with_traceback(None) from None
        except KeyboardInterrupt as error:
            raise error.with_traceback(None) from None

    return calling
