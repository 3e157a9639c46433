"""Who runs a trial, and whether they still do.

Owns the lease that a running trial carries in its user attributes: host, system, process, when that process began, and
a beat counted up while it lives. No clock that may be set is asked. Optuna's own heartbeat exists only inside
``optimize()``. Knows nothing of results.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import psutil

LEASE = "embedsweep.lease"
BEAT = "embedsweep.beat"
BEAT_EVERY_S = 15.0
SILENT_FOR_S = 60.0

Verdict = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True)
class Lease:
    """The process that runs a trial.

    Attributes:
        host: its machine's name, for people: containers may share one.
        system: what numbers it: the running kernel and, within that, the container.
        pid: its number there.
        started: when it began, as its system counts it; tells it apart from a later process of the same number.
    """

    host: str
    system: str
    pid: int
    started: float

    @classmethod
    def mine(cls) -> Lease:
        """This process's own."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Lease:
        """That of a process of this system.

        Raises:
            psutil.NoSuchProcess: there is none of that number.
        """
        return cls(socket.gethostname(), _system(), pid, _started(pid))

    def tree(self) -> dict[str, Any]:
        """The lease as JSON can hold it."""
        return asdict(self)


class Leases:
    """Judges leases over time; keep one while a study is open.

    A holder in this very system is asked for by its process, which is exact. One elsewhere - on another machine, before
    this one was booted, in another container of it - is dead when its beat has stood still for a minute of this
    process's monotonic clock, which no clock that was set wrong can fool.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, Lease], tuple[int, float]] = {}

    def judge(self, number: int, attributes: Mapping[str, Any]) -> Verdict:
        """Whether somebody still runs trial ``number``, by its user attributes; of another system it takes a minute."""
        if attributes.get(LEASE) is None:
            # Leases are taken under the same lock as the trial: without one, its worker died in between or gave it up.
            return "dead"
        lease = Lease(**attributes[LEASE])
        if lease.system == _system() and (runs := _runs(lease)) is not None:
            return "alive" if runs else "dead"
        beat, now = int(attributes.get(BEAT, 0)), time.monotonic()
        last_beat, since = self._seen.setdefault((number, lease), (beat, now))
        if last_beat != beat:
            self._seen[number, lease] = (beat, now)
            return "alive"
        return "dead" if now - since > SILENT_FOR_S else "unknown"


def _runs(lease: Lease) -> bool | None:
    """Whether the holder runs in this system; None where that is hidden (``hidepid``, processes of other users)."""
    try:
        return _started(lease.pid) == lease.started and psutil.Process(lease.pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None if psutil.pid_exists(lease.pid) else False


_LINUX = Path("/proc/self/stat").is_file()
_START_TICKS = 19
"""Field 22 of ``/proc/PID/stat``, counted from the third."""


def _started(pid: int) -> float:
    """When a process of this system began, in a unit of its own: on Linux, clock ticks since the machine was booted.

    psutil counts them from the boot, told by the wall clock: when that is set, a process began at another moment.
    """
    if not _LINUX:
        return psutil.Process(pid).create_time()
    try:
        stat = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    # The second field is the program's name, which may hold spaces and brackets.
    return float(stat.rpartition(")")[2].split()[_START_TICKS])


@cache
def _system() -> str:
    """Identifies what gives processes their numbers; equal numbers of different systems are different processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode():x}"


@contextmanager
def beating(beat: Callable[[int], None]) -> Iterator[None]:
    """Calls ``beat`` with a growing count, from a thread, while the block runs."""
    over = threading.Event()

    def run() -> None:
        count = 0
        while not over.wait(BEAT_EVERY_S):
            count += 1
            try:
                beat(count)
            except Exception:  # a storage that is away for a moment: the next beat may reach it
                logging.getLogger(__name__).exception("the lease could not be renewed")

    thread = threading.Thread(target=run, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
