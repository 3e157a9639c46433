"""Remove environment variables that would change what a command does without being asked: a launcher's, and empty ones.

Call it before any library is imported that reads them.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from embedsweep.errors import Problem

_LAUNCHER = frozenset(
    {"RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"}
    | {"ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "FORK_LAUNCHED"}
)
_LAUNCHER_PREFIXES = ("ACCELERATE_", "TORCHELASTIC_", "PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_")
"""What accelerate reads: with one of them a process waits for others that never come, or trains in a precision that is
not ``trainer.precision``."""

_EMPTY_IS_UNSET = ("MLFLOW_", "HF_", "OMP_", "MKL_")


def drop_empty(environ: MutableMapping[str, str]) -> None:
    """Remove empty variables of MLflow, Hugging Face and OpenMP: ``MLFLOW_TRACKING_URI=`` means that it is unset."""
    for name in [name for name, value in environ.items() if not value and name.startswith(_EMPTY_IS_UNSET)]:
        del environ[name]


def drop_launcher(environ: MutableMapping[str, str]) -> list[str]:
    """Remove the variables by which torchrun, accelerate and MPI tell a process of its group; return their names."""
    names = sorted(name for name in environ if name in _LAUNCHER or name.startswith(_LAUNCHER_PREFIXES))
    for name in names:
        del environ[name]
    return names


def launcher_problem(environ: MutableMapping[str, str]) -> Problem | None:
    """Return why a command that torchrun has started several times cannot train; None if it was not."""
    count = environ.get("WORLD_SIZE", "1")
    if "TORCHELASTIC_RUN_ID" not in environ or count == "1":
        return None
    message = (
        f"starts this command {count} times, and each would train for itself: start it once, without a launcher, with "
        f"workers.processes_per_trial={count} (if this is no torchrun, unset TORCHELASTIC_RUN_ID)"
    )
    return Problem("torchrun", message)
