"""A trial as the worker that runs it holds it.

Owns what is known of it before it begins. Knows nothing of Optuna.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedsweep.schema import Choice


@dataclass(frozen=True)
class OpenTrial:
    """A trial that this process runs.

    Attributes:
        number: its number in the study.
        params: the drawn value of every axis that is searched in it, by key.
        folder: its own.
        run_id: its MLflow run, where an earlier attempt has made one.
        is_resumed: whether an earlier attempt was made.
        attempt: which one this is, from 1; those that were interrupted do not count.
        failures: why earlier attempts failed, in order.
        is_over: whether its attempts are used up: it is not to be run, but to be failed.
    """

    number: int
    params: Mapping[str, Choice]
    folder: Path
    run_id: str | None
    is_resumed: bool
    attempt: int
    failures: tuple[str, ...]
    is_over: bool
