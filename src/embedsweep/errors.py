"""The exceptions that embedsweep raises, their exit codes, and what led to an exception."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One problem in a command, a configuration or a data file.

    Attributes:
        where: the key (``loss.scale``) or the file and line (``train.csv, line 12``).
        message: the value, what is allowed and what to do.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class EmbedsweepError(Exception):
    """Base class of all errors that this package raises on purpose.

    Attributes:
        exit_code: the exit code of a command that ends with this error.
        fails_again: whether a trial that raised it is certain to raise it again, so that a retry is pointless.
    """

    exit_code = 1
    fails_again = False


class ConfigError(EmbedsweepError):
    """The configuration is invalid; nothing was trained.

    Args:
        problems: all problems, without duplicates, in order; at least one.
    """

    exit_code = 2
    fails_again = True

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        if not self.problems:
            raise ValueError("a ConfigError needs at least one problem")
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def single(cls, where: str, message: str) -> ConfigError:
        """Return a ConfigError of one problem."""
        return cls([Problem(where, message)])


@contextmanager
def gather_problems(problems: list[Problem]) -> Iterator[None]:
    """End the ``with`` block at a :class:`ConfigError`, and add its problems to a list instead of raising it.

    A file that the system refuses (permissions, a name that is too long) is such a problem, too.
    """
    try:
        yield
    except ConfigError as error:
        problems += error.problems
    except OSError as error:
        if error.filename is None:
            raise
        problems.append(Problem(str(error.filename), f"cannot be used: {error.strerror}"))


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise a ConfigError of all problems if there are any."""
    if problems:
        raise ConfigError(problems)


class TrialError(EmbedsweepError):
    """A trial cannot produce a result: its loss or a score is NaN, for example."""

    fails_again = True


class TrialTakenError(EmbedsweepError):
    """Another worker has reclaimed a trial of this one, whose lease expired; this worker must not report its result.

    Args:
        number: the trial's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"another worker has reclaimed trial {number} and will report its result")


class GroupError(EmbedsweepError):
    """A process of the group that trained a trial died or hung; the trial itself may be fine."""


class TrackingError(EmbedsweepError):
    """MLflow's store cannot be opened or written."""


class UnreachableError(TrackingError):
    """MLflow's store does not answer or cannot be written at this moment; the same call may succeed later."""


class StudyError(EmbedsweepError):
    """Optuna's storage cannot be opened, or holds data that embedsweep did not write."""


class BucketError(EmbedsweepError):
    """A bucket for checkpoints does not answer, or refuses what was asked."""


class LockLostError(StudyError):
    """The connection that held a study's lock was lost, so that others may have written since; nothing was."""


class DeviceLostError(EmbedsweepError):
    """The CUDA context of this process is broken for good; a new process can use the GPU.

    Args:
        reason: CUDA's error message.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"this process can no longer use its GPU ({reason}); the same command resumes in a new process"
        )


class WorkerError(EmbedsweepError):
    """Worker processes cannot start, died too often, or one of them hit an error that would fail every trial."""


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived while a trial was training.

    Derives from ``BaseException``, like ``KeyboardInterrupt``, so that no library's ``except Exception`` swallows it.

    Args:
        signum: the signal's number; the process exits with ``128 + signum``.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """The process's exit code: 129 for SIGHUP, 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signum


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, those that turn the direction of writing, and halves of characters."""

LONGEST_MESSAGE = 4000


def printable(text: str) -> str:
    """Return a text for a terminal: what would move its cursor or colour it is shown by number, a very long one cut."""
    shown = text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]} ... ({len(text)} characters)"
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], shown)


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its type; torch appends a stack of C++ calls."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def causes(error: BaseException, *, implicit: bool = False) -> Iterator[BaseException]:
    """Yield an exception and those that led to it, the last one first.

    Args:
        error: where the chain starts.
        implicit: whether to follow ``__context__``, too, where an exception has no ``__cause__``.
    """
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or (current.__context__ if implicit else None)
