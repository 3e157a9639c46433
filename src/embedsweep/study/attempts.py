"""Attempts at a trial: how many were begun, and how those ended that failed.

Owns the words for it. A trial that fails, or kills its worker, is begun again so often and no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from embedsweep.study.leases import BEAT, BEAT_EVERY_S, LEASE

ATTEMPTS = "embedsweep.attempts"
"""How many were begun, less those that were interrupted; written before each of them begins."""

FAILED_ATTEMPTS = "embedsweep.failed_attempts"
"""By their numbers, why attempts failed."""

DIED = "its worker died"


def death_of(attributes: Mapping[str, Any]) -> str:
    """What became of an attempt whose worker is dead, by the trial's user attributes."""
    lease, beat = attributes[LEASE], int(attributes.get(BEAT, 0))
    seconds = f"{beat * BEAT_EVERY_S:.0f} s" if beat else f"less than {BEAT_EVERY_S:.0f} s"
    process = f"process {lease['pid']} on {lease['host']}"
    return f"{DIED} (the last sign of life of {process} came {seconds} after the attempt had begun)"


def failure_of(reasons: Sequence[str]) -> str:
    """Why a trial failed, of which every attempt failed.

    Args:
        reasons: of its attempts, in order; at least one.
    """
    *earlier, last = reasons
    if not earlier:
        return last
    if all(reason.startswith(DIED) for reason in reasons):
        return last.replace(DIED, f"{DIED} {len(reasons)} times", 1)
    if set(earlier) == {last}:
        return f"{last} (in each of {len(reasons)} attempts)"
    return "; ".join((last, *(f"attempt {number}: {reason}" for number, reason in enumerate(earlier, start=1))))
