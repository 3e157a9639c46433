"""What studies cost, by hand-computed sums, beside what they were quoted."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from embedsweep.report.costs import costs, energy_note, quote_and_actual
from embedsweep.report.results import study_results
from embedsweep.study.opening import open_study
from embedsweep.study.quote import GIB
from embedsweep.validation.sweep import pass_sweep
from tests.report.studies import COST, finish, result, study_of

QUOTE = {
    "n_trials": 4,
    "workers": 2,
    "pruned_seconds": 5400.0,
    "energy_kwh": 0.03,
    "co2eq_kg": 0.006,
    "disk_bytes": 3 * GIB,
    "ram_bytes": 5 * GIB,
    "gpu_gib": None,
}


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_figure_of_a_quote_stands_beside_what_it_came_to() -> None:
    words = ("study.name=quoted", "optimizer.lr=interval(1e-4,1e-3)", "study.budget_hours=8")
    study = open_study(pass_sweep(words), {"budget_hours": 8.0, **QUOTE})
    done = replace(result(0.7), emissions=replace(COST, duration_s=3600.0), peak_ram_gib=1.5, peak_memory_gib=2.25)
    finish(study, [done, replace(done, peak_ram_gib=1.25), "no memory left"])
    figures = {each.name: (each.quoted, each.actual) for each in quote_and_actual(study_results(study))}
    (disk, used) = figures.pop("disk, GiB")
    assert disk == 3
    assert used is not None
    assert 0 < used < 0.01
    assert figures == {
        "trials": (4, 2),
        "hours": (1.5, 1.0),
        "energy, kWh": (0.03, 0.02),
        "CO2 equivalent, kg": (0.006, 0.004),
        "memory, GiB": (5, 3.0),
        "GPU memory of a worker, GiB": (None, 2.25),
    }
    _, _, space = costs(study_results(study))
    assert re.fullmatch(r"quoted at most: disk 3 GiB, \S+ GiB in its folder now; memory 5 GiB, 3 GiB in fact", space)


def test_a_study_without_a_quote_has_nothing_to_compare() -> None:
    assert quote_and_actual(study_results(study_of(0.5, 0.7))) == []


def test_what_is_not_known_of_the_truth_is_unknown() -> None:
    words = ("study.name=begun", "optimizer.lr=interval(1e-4,1e-3)", "study.budget_hours=8")
    study = open_study(pass_sweep(words), {"budget_hours": 8.0, **QUOTE})
    figures = {each.name: each.actual for each in quote_and_actual(study_results(study))}
    assert figures["trials"] == 0
    assert [figures[name] for name in ("hours", "energy, kWh", "memory, GiB")] == [None, None, None]


SHARED = "approximate: this worker's part of the machine's energy, by cpu time"
ESTIMATED = "cpu power estimated (load x assumed TDP of 8 W, no RAPL)"


@pytest.mark.parametrize(
    ("remarks", "note"),
    [
        ((), "the machine's energy, CPU power measured; electricity: FRA"),
        ((SHARED,), "the machine's energy, shared out among workers, CPU power measured; electricity: FRA"),
        ((ESTIMATED,), "the machine's energy, CPU power estimated; electricity: FRA"),
        (("no cpu measured",), "the machine's energy, CPU power not measured; electricity: FRA"),
    ],
)
def test_a_note_says_whose_energy_how_it_was_obtained_and_where(remarks: tuple[str, ...], note: str) -> None:
    france = replace(COST, country="FRA")
    assert energy_note([france, replace(france, unmeasured=remarks)]) == note


def test_of_what_no_energy_is_known_nothing_is_said() -> None:
    assert energy_note([]) == energy_note([replace(COST, energy_kwh=0.0)]) == ""
    assert energy_note([COST, replace(COST, country="FRA")]).endswith("electricity: world average, FRA")
