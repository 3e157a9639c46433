"""Who runs a trial, and whether they still do.

Owns the lease that a running trial carries in its user attributes: host, process, when that process began, and a beat
counted up while it lives. Optuna's own heartbeat exists only inside ``optimize()``. Knows nothing of results.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
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
        host: its machine.
        pid: its number there.
        started: when it began, as its system tells it; tells it apart from a later process of the same number.
    """

    host: str
    pid: int
    started: float

    @classmethod
    def mine(cls) -> Lease:
        """This process's own."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    def tree(self) -> dict[str, Any]:
        """The lease as JSON can hold it."""
        return asdict(self)


class Leases:
    """Judges leases over time; keep one while a study is open.

    A holder on this host is asked for by its process, which is exact. One on another host is dead when its beat has
    stood still for a minute of this process's monotonic clock, which no clock that was set wrong can fool.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, Lease], tuple[int, float]] = {}

    def judge(self, number: int, attributes: Mapping[str, Any]) -> Verdict:
        """Whether somebody still runs trial ``number``, by its user attributes; of another host it takes a minute."""
        if attributes.get(LEASE) is None:
            # Leases are taken under the same lock as the trial: without one, its worker died in between or gave it up.
            return "dead"
        lease = Lease(**attributes[LEASE])
        if lease.host == socket.gethostname():
            return "alive" if _runs(lease) else "dead"
        beat, now = int(attributes.get(BEAT, 0)), time.monotonic()
        last_beat, since = self._seen.setdefault((number, lease), (beat, now))
        if last_beat != beat:
            self._seen[number, lease] = (beat, now)
            return "alive"
        return "dead" if now - since > SILENT_FOR_S else "unknown"


def _runs(lease: Lease) -> bool:
    try:
        process = psutil.Process(lease.pid)
        # Rounding: the system counts in hundredths of a second from a boot time that ntp may shift a little.
        return abs(process.create_time() - lease.started) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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
