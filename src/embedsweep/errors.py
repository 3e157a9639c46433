"""The exception tree: what can go wrong, told to the person who reads it.

Owns the exceptions and the exit codes they stand for. Knows nothing of any library or other module.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with what the user asked for.

    Attributes:
        where: the key (``loss.scale``) or the file and line (``train.csv, line 12``).
        message: which value, what is allowed and what to do.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class EmbedsweepError(Exception):
    """Root of all errors this package raises on purpose.

    Attributes:
        exit_code: of a command that it ends.
        fails_again: whether a trial that raised it would for certain raise it once more.
    """

    exit_code = 1
    fails_again = False


class ConfigError(EmbedsweepError):
    """What was asked cannot be done; nothing was trained.

    Args:
        problems: all problems found, each once, in the order they were found; at least one.
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
        """A ConfigError of one problem."""
        return cls([Problem(where, message)])


class TrialError(EmbedsweepError):
    """A trial cannot have a result (a loss that is NaN, a score that is not a number)."""

    fails_again = True


class TrialTakenError(EmbedsweepError):
    """Another worker has taken a trial up, because this one was taken for dead; nothing of it is to be told here.

    Args:
        number: the trial's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"another worker has taken trial {number} up and tells what comes of it")


class GroupError(EmbedsweepError):
    """A process of the group that trained a trial died or hung; the trial itself may be sound."""


class TrackingError(EmbedsweepError):
    """MLflow's store cannot be opened or written."""


class UnreachableError(TrackingError):
    """MLflow's store does not answer or cannot be written at this moment; the same call may succeed later."""


class StudyError(EmbedsweepError):
    """Optuna's storage cannot be opened, or holds something this program did not write."""


class DeviceLostError(EmbedsweepError):
    """This process cannot use its GPU any more; a new process can.

    Args:
        reason: what CUDA said.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"this process cannot use its GPU any more ({reason}); the same command goes on in a new one")


class WorkerError(EmbedsweepError):
    """Worker processes cannot start, died too often, or one of them met what ails all trials."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived while a trial was training.

    Derives from ``BaseException``, like ``KeyboardInterrupt``, so that no library's ``except Exception`` keeps it.

    Args:
        signum: the signal's number; the process exits with ``128 + signum``.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signum


def first_line(error: BaseException) -> str:
    """The gist of an exception; torch's go on with a stack of C++ calls."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
