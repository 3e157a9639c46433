"""Pass figures on to the table: one JSON line, the last that a benchmark prints."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value beside the promise: at most ``promised``, in ``unit``."""

    what: str
    measured: float
    promised: float
    unit: str


def print_figures(*figures: Figure) -> None:
    """Print the figures for the table."""
    print(json.dumps([asdict(figure) for figure in figures]))
