"""Rungs: the places in a training at which its trial is compared with others.

Owns where they lie. Knows nothing of who compares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def rung_steps(rungs: Sequence[float], total: int) -> tuple[int, ...]:
    """The optimizer step of each rung: its fraction of all steps, rounded up.

    Args:
        rungs: fractions in (0, 1), rising.
        total: optimizer steps of the whole training, at least 1. In a short one several rungs fall on one step, and a
            late one on the last.
    """
    # Binary noise (0.07 * 100 is above 7) must not move a rung by a step.
    return tuple(math.ceil(round(fraction * total, 9)) for fraction in rungs)
