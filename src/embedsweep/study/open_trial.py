"""A trial that a process runs, as the study gives it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedsweep.config.study import Choice
from embedsweep.study.deaths import Deaths


@dataclass(frozen=True)
class OpenTrial:
    """A trial that this process runs.

    Attributes:
        number: its number in the study.
        params: the sampled value of every axis that is searched in it, by key.
        folder: its folder.
        run_id: the id of its MLflow run, if an earlier attempt created one.
        is_resumed: whether there was an earlier attempt.
        attempt: the number of this attempt, from 1; interrupted ones do not count.
        failures: why earlier attempts raised, in order.
        deaths: how often its worker died without getting further.
        why_over: why it is failed and not run, as its retries or deaths are used up; None if it is run.
        has_folder: whether its folder was here before this attempt.
    """

    number: int
    params: Mapping[str, Choice]
    folder: Path
    run_id: str | None
    is_resumed: bool
    attempt: int
    failures: tuple[str, ...]
    deaths: Deaths
    why_over: str | None
    has_folder: bool
