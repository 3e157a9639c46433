"""Deaths of a trial's workers: counted only while the trial gets no further, in its user attributes.

A killed process, a power cut or a lost GPU is not the trial's fault. Only a trial whose workers die again and again
before it writes a newer checkpoint may be the cause itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedsweep.study.leases import BEAT, BEAT_EVERY_S, LEASE

DEATHS = "embedsweep.deaths"

DIED = "its worker died"
"""How a death starts among the failed attempts of older versions, which counted it as one."""


@dataclass(frozen=True)
class Deaths:
    """The last deaths of a trial's workers, one after another, at one place.

    Attributes:
        count: how many.
        checkpoint: the place: step of the trial's last complete checkpoint; None before the first one.
        attempt: number of the last attempt that ended so; a death that is recorded twice counts once.
        reason: how that attempt ended.
    """

    count: int = 0
    checkpoint: int | None = None
    attempt: int = 0
    reason: str = ""

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Deaths:
        """Return those in a trial's user attributes; studies of older versions have none."""
        return cls(**attributes.get(DEATHS, {}))

    def after(self, attempt: int, checkpoint: int | None, reason: str) -> Deaths:
        """Return the deaths after another one; the count starts again if the trial has a newer checkpoint by then."""
        if attempt == self.attempt:
            return self
        if (checkpoint or 0) > (self.checkpoint or 0):
            return Deaths(1, checkpoint, attempt, reason)
        return Deaths(self.count + 1, self.checkpoint, attempt, reason)

    def as_failure(self, limit: int) -> str:
        """Return why a trial failed that had ``limit`` (``study.max_deaths``) deaths or more."""
        times = f" {self.count} times, one after another," if self.count > 1 else ""
        place = "before its first checkpoint"
        if self.checkpoint is not None:
            place = f"before it got past the checkpoint of step {self.checkpoint}"
        return f"{DIED}{times} {place} (study.max_deaths={limit}; {self.reason})"


def last_sign_of(attributes: Mapping[str, Any]) -> str:
    """Describe the end of an attempt whose worker is dead, from the trial's user attributes."""
    lease, beat = attributes[LEASE], int(attributes.get(BEAT, 0))
    seconds = f"{beat * BEAT_EVERY_S:.0f} s" if beat else f"less than {BEAT_EVERY_S:.0f} s"
    process = f"process {lease['pid']} on {lease['host']}"
    return f"the last sign of life of {process} came {seconds} after the attempt had started"


def failure_of(reasons: Sequence[str]) -> str:
    """Return why a trial failed, the last reason first.

    Args:
        reasons: why each attempt failed, in order; at least one.
    """
    *earlier, last = reasons
    if not earlier:
        return last
    if set(earlier) == {last}:
        return f"{last} (in each of {len(reasons)} attempts)"
    return "; ".join((last, *(f"attempt {number}: {reason}" for number, reason in enumerate(earlier, start=1))))


def failures_in(attempts: Mapping[str, str]) -> tuple[str, ...]:
    """Return why attempts raised, in order, from the trial's user attribute: attempt -> reason."""
    return tuple(reason for reason in attempts.values() if not reason.startswith(DIED))
