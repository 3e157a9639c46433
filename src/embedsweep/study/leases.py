"""Leases of running trials: which process runs a trial, and whether it is still alive.

A running trial carries its lease in its user attributes: host, system, process, that process's start time, and a beat
that counts up while it lives. No wall clock is compared. Optuna's own heartbeat exists only inside ``optimize()``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from embedsweep.lease import Lease
from embedsweep.study.database import answers_since

LEASE = "embedsweep.lease"
BEAT = "embedsweep.beat"
BEAT_EVERY_S = 15.0
SILENT_FOR_S = 60.0

Verdict = Literal["alive", "dead", "unknown"]


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
        if (runs := lease.runs()) is not None:
            return "alive" if runs else "dead"
        beat, now = int(attributes.get(BEAT, 0)), time.monotonic()
        last_beat, since = self._seen.setdefault((number, lease), (beat, now))
        if last_beat != beat:
            self._seen[number, lease] = (beat, now)
            return "alive"
        # No beat gets through while the storage is away.
        return "dead" if now - max(since, answers_since()) > SILENT_FOR_S else "unknown"


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
