"""A process as others know it that may outlive it: what it left behind says whose it is."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Lease:
    """The process that runs a trial, or that recorded what waits for a store.

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

    def runs(self) -> bool | None:
        """Return whether the process runs; None if that is hidden here (``hidepid``), or it is of another system."""
        if self.system != _system():
            return None
        try:
            return _start_time(self.pid) == self.started and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None if psutil.pid_exists(self.pid) else False


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
