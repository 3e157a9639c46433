"""Check that a machine can run trials of a study: its package, its folder, and what it reaches from there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from embedsweep.errors import ConfigError, EmbedsweepError, Problem, first_line
from embedsweep.files import SWEEPS, access_problem
from embedsweep.secrets import redact
from embedsweep.study.frozen_data import check_data
from embedsweep.study.opening import open_study
from embedsweep.study.storage import storage_errors
from embedsweep.study.study import Study
from embedsweep.tracking.runs import Tracker
from embedsweep.validation.sweep import Sweep
from embedsweep.workers.elsewhere import require_reach

ROOM_GIB = 1.0
"""Free space in GiB that a node needs at least for checkpoints and logs."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class NodeOrder:
    """What a node is checked for.

    Attributes:
        folder: the working directory, on every machine.
        sweep: how the study is opened there: by its name, in whatever storage.
        boot: the running kernel of the command's machine, which tells machines apart; empty if it is unknown.
        marker: a file in the working directory that the command has just written.
        files: keys whose value is a file, which only the command's machine can use.
    """

    folder: str
    sweep: Sweep
    boot: str
    marker: str
    files: tuple[str, ...]


def running_kernel() -> str:
    """Return what tells the running system of this machine from all others; empty if it does not say."""
    with suppress(OSError):
        return BOOT_ID.read_text(encoding="ascii").strip()
    return ""


def files_of(study: Study) -> tuple[str, ...]:
    """Return the keys of a study whose value is a file: those of storage and tracking, where they are no server."""
    uri = study.services.tracking.uri or "sqlite:"
    is_file = {
        "study.storage": study.url is None or study.url.startswith("sqlite"),
        "tracking.uri": uri.startswith("sqlite:"),
    }
    return tuple(key for key, is_local in is_file.items() if is_local)


SERVERS = {"study.storage": "postgresql://host/database", "tracking.uri": "http://host:5000"}
"""Key -> what it is set to for several machines."""


def check_node(order: NodeOrder) -> list[str]:
    """Return everything that keeps this machine from running trials of a study; the process ends in its folder."""
    problems = list(_check_folder(order))
    if not problems:
        problems = list(_check_files(order))
    if not problems:
        problems = list(_check_services(order))
    return [redact(line) for line in problems]


def _check_folder(order: NodeOrder) -> Iterator[str]:
    """Go to the working directory, and make it if it is missing; report what keeps files from being written there."""
    folder = Path(order.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
    except OSError as error:
        yield f"the working directory {folder} cannot be used: {error.strerror}"
        return
    for path in (SWEEPS, SWEEPS / str(order.sweep.study.name)):
        if (reason := access_problem(path)) is not None:
            yield f"{path.absolute()} {reason}"
            return
    free = shutil.disk_usage(folder).free / 2**30
    if free < ROOM_GIB:
        yield f"{folder} has {free:.2f} GiB left, and checkpoints need at least {ROOM_GIB:g}: make room"


def _check_files(order: NodeOrder) -> Iterator[str]:
    """Report a study whose records are files of another machine; a network's file system does not lock them safely."""
    is_same = running_kernel() == order.boot and Path(order.marker).is_file()
    if not is_same:
        for key in order.files:
            yield f"{key} is a file of the command's machine, and this is another: set it to {SERVERS[key]}"


def _check_services(order: NodeOrder) -> Iterator[str]:
    """Report a storage or tracking store that does not answer, and data that is missing or different."""

    def store() -> None:
        if "tracking.uri" not in order.files:  # else the command has opened the file
            Tracker(order.sweep.tracking, lambda _: None).stop()

    def study() -> None:
        with storage_errors():
            check_data(open_study(order.sweep))

    def checkpoints() -> None:
        require_reach(order.sweep.study.checkpoints)

    yield from _problems_of("tracking.uri", store)
    yield from _problems_of("study.checkpoints", checkpoints)
    yield from _problems_of("study.storage", study)


def _problems_of(where: str, call: Callable[[], None]) -> list[str]:
    try:
        call()
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    except EmbedsweepError as error:
        return [str(Problem(where, str(error)))]
    except Exception as error:  # whatever a library raises on a machine that lacks something
        return [str(Problem(where, f"{type(error).__name__}: {first_line(error)}"))]
    return []
