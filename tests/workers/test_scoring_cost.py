"""What scoring test cost, where a study was scored on more than one machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from embedsweep.config.result import Emissions
from embedsweep.emissions.meter import EmissionsMeter
from embedsweep.workers.winner import all_scoring
from tests.report.studies import study_of


def seconds(number: float) -> Emissions:
    return Emissions(number / 1000, number / 100, number, "FRA", ())


@pytest.mark.parametrize(
    ("known", "here", "attempt", "expected"),
    [
        (None, 2, 2, 2),
        (3, 5, 2, 5),  # of this machine
        (3, 7, 2, 7),  # it had begun once more, and was killed
        (100, 2, 2, 102),  # of another machine
        (102, 5, 3, 105),  # of both
    ],
)
def test_what_scoring_cost_on_other_machines_counts(
    known: float | None, here: float, attempt: float, expected: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = study_of(0.5)
    if known is not None:
        study.set_scoring_cost(seconds(known))
    meter = SimpleNamespace(total=lambda: seconds(here), attempt=lambda: seconds(attempt))
    found = all_scoring(study, cast("EmissionsMeter", meter))
    assert found.duration_s == expected
    assert found.co2eq_kg == pytest.approx(expected / 1000)
