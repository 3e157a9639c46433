"""Leases of running trials: which process runs a trial, and whether it is still alive.

A running trial carries its lease in its user attributes: host, system, process, that process's start time, and a beat
that counts up while it lives. No wall clock is compared. Optuna's own heartbeat exists only inside ``optimize()``.
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
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import psutil

from embedsweep.study.database import answers_since

LEASE = "embedsweep.lease"
BEAT = "embedsweep.beat"
BEAT_EVERY_S = 15.0
SILENT_FOR_S = 60.0

Verdict = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True)
class Lease:
    """The process that runs a trial.

    Attributes:
        host: its machine's name, for people; containers may share one.
        system: identifies what numbers the process: the running kernel and, within that, the container.
        pid: its process id there.
        started: its start time, as its system counts it; tells it apart from a later process with the same id.
    """

    host: str
    system: str
    pid: int
    started: float

    @classmethod
    def mine(cls) -> Lease:
        """Return the lease of this process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Lease:
        """Return the lease of a process of this system.

        Raises:
            psutil.NoSuchProcess: there is no process with that id.
        """
        return cls(socket.gethostname(), _system(), pid, _start_time(pid))


class Leases:
    """Judges leases over time; keep one while a study is open.

    For a holder on this system the process itself is looked up, which is exact. A holder elsewhere (another machine,
    another container, or this machine before it was rebooted) is dead when its beat has not changed for a minute of
    this process's monotonic clock, so that a wall clock that is wrong does no harm.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, Lease], tuple[int, float]] = {}

    def judge(self, number: int, attributes: Mapping[str, Any]) -> Verdict:
        """Return whether the process that runs a trial is alive; on another system that takes up to a minute.

        Args:
            number: the trial's number.
            attributes: the trial's user attributes.
        """
        if attributes.get(LEASE) is None:
            # Leases are taken under the same lock as the trial: without one, its worker died in between or released it.
            return "dead"
        lease = Lease(**attributes[LEASE])
        if lease.system == _system() and (runs := _runs(lease)) is not None:
            return "alive" if runs else "dead"
        beat, now = int(attributes.get(BEAT, 0)), time.monotonic()
        last_beat, since = self._seen.setdefault((number, lease), (beat, now))
        if last_beat != beat:
            self._seen[number, lease] = (beat, now)
            return "alive"
        # No beat gets through while the storage is away.
        return "dead" if now - max(since, answers_since()) > SILENT_FOR_S else "unknown"


def _runs(lease: Lease) -> bool | None:
    """Return whether the holder runs on this system; None if that is hidden (``hidepid``, other users' processes)."""
    try:
        return _start_time(lease.pid) == lease.started and psutil.Process(lease.pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None if psutil.pid_exists(lease.pid) else False


_LINUX = Path("/proc/self/stat").is_file()
_START_TICKS = 19
"""Field 22 of ``/proc/PID/stat``, counted from the third."""


def _start_time(pid: int) -> float:
    """Return when a process of this system started: on Linux, in clock ticks since the machine was booted.

    psutil's start time depends on the wall clock, and changes for a running process when that clock is set.
    """
    if not _LINUX:
        return psutil.Process(pid).create_time()
    try:
        stat = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    # The second field is the program's name, which may contain spaces and brackets.
    return float(stat.rpartition(")")[2].split()[_START_TICKS])


@cache
def _system() -> str:
    """Return an identifier of what numbers processes; equal ids on different systems are different processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode():x}"


@contextmanager
def beating(beat: Callable[[int], None]) -> Iterator[None]:
    """Call ``beat`` with a growing count from a thread, every `BEAT_EVERY_S` seconds, while the block runs."""
    over = threading.Event()

    def run() -> None:
        count = 0
        while not over.wait(BEAT_EVERY_S):
            count += 1
            try:
                beat(count)
            except Exception:  # the storage may be away for a moment: the next beat may reach it
                logging.getLogger(__name__).exception("the lease could not be renewed")

    thread = threading.Thread(target=run, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
