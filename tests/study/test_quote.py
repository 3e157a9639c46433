"""What a study will cost, by the seconds of its kinds of trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from embedsweep.config.study import StudyPlan
from embedsweep.errors import ConfigError
from embedsweep.report.quote import quote_lines
from embedsweep.study.opening import find_study, open_study
from embedsweep.study.quote import (
    GIB,
    Kind,
    Quote,
    TimedKind,
    Timing,
    affordable,
    kinds_of,
    make_quote,
    makespan,
    trained_share,
)
from embedsweep.validation.sweep import pass_sweep

BATCH, LR = "dataloader.batch_size", "optimizer.lr"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan_of(*words: str) -> StudyPlan:
    plan = pass_sweep(words).plan
    assert plan is not None
    return plan


# 100 steps of a second, 5 evaluations of 2 s, and 10 s for the rest: 120 s.
TIMING = Timing(
    steps=100,
    step_s=1.0,
    eval_s=2.0,
    fixed_s=10.0,
    evaluations=5,
    kwh_per_s=1e-5,
    co2eq_kg_per_s=4e-6,
    ram_bytes=GIB,
    gpu_gib=None,
    checkpoint_bytes=300,
    model_bytes=100,
)


def timed(plan: StudyPlan, *step_s: float | str) -> dict[Kind, TimedKind]:
    """The kinds of a plan, in order: with seconds of a step, or why they cannot be trained."""
    kinds = {}
    for (kind, (values, _)), each in zip(kinds_of(plan).items(), step_s, strict=True):
        is_fit = isinstance(each, float)
        timings = (replace(TIMING, step_s=each),) if isinstance(each, float) else ()
        kinds[kind] = TimedKind(values, timings, None if is_fit else str(each))
    return kinds


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        # Rates, seeds and margins cost nothing.
        (("loss=mnrl,cosent", "search=lr", "study.n_trials=4"), [{"loss": "mnrl"}, {"loss": "cosent"}]),
        (("optimizer.lr=1e-4,1e-3", "trainer.seed=1,2"), [{}]),
        (("loss=contrastive", "loss.margin=interval(0.1,1)", "study.n_trials=4"), [{}]),
        # Every value of a list, both ends of a range.
        ((f"{BATCH}=16,32,64",), [{BATCH: 16}, {BATCH: 32}, {BATCH: 64}]),
        ((f"{BATCH}=int(interval(8,64))", "study.n_trials=4"), [{BATCH: 8}, {BATCH: 64}]),
        (("trainer.epochs=interval(1,3)", "study.n_trials=4"), [{"trainer.epochs": 1.0}, {"trainer.epochs": 3.0}]),
        (("optimizer=adamw,adafactor",), [{"optimizer": "adamw"}, {"optimizer": "adafactor"}]),
        # Without what a constraint excludes.
        ((f"{BATCH}=16,32,64", f'search.constraints=["{BATCH} <= 32"]'), [{BATCH: 16}, {BATCH: 32}]),
    ],
)
def test_each_kind_of_trial_that_may_cost_something_else_is_timed(
    words: Sequence[str], kinds: list[dict[str, object]]
) -> None:
    found = list(kinds_of(plan_of(*words)).values())
    assert [values for values, _ in found] == kinds
    for values, config in found:
        assert config.dataloader.batch_size == values.get(BATCH, config.dataloader.batch_size)


def test_a_key_of_one_option_makes_kinds_of_that_option_only() -> None:
    kinds = kinds_of(plan_of("loss=mnrl,cosent", "search=full", "study.n_trials=4", f"{BATCH}=16"))
    sampler = "dataloader.batch_sampler"
    assert [values for values, _ in kinds.values()] == [
        {"loss": "mnrl", sampler: "batch_sampler"},
        {"loss": "mnrl", sampler: "no_duplicates"},
        {"loss": "cosent"},
    ]


def test_only_the_number_of_negatives_makes_kinds() -> None:
    words = ("loss=mnrl", "data=demo_retrieval", "evaluation.dev=demo-dev", "evaluation.test=demo-test")
    swept = ("negatives.count=0,3", "negatives.relative_margin=0.0,0.1", "negatives.sampling=top,random")
    kinds = kinds_of(plan_of(*words, *(f"data.{word}" for word in swept)))
    assert [values for values, _ in kinds.values()] == [{"data.negatives.count": 0}, {"data.negatives.count": 3}]


def test_too_many_kinds_are_refused() -> None:
    sizes = ",".join(str(8 * number) for number in range(1, 66))
    with pytest.raises(ConfigError, match="quote would time 65 kinds of trials, more than 64: fix some of what is"):
        kinds_of(plan_of(f"{BATCH}={sizes}"))


@pytest.mark.parametrize(
    ("durations", "workers", "busy", "seconds"),
    [
        ([5.0, 5.0, 5.0], 1, (), 15.0),
        ([5.0, 5.0, 5.0], 2, (), 10.0),
        ([9.0, 1.0, 1.0, 1.0], 2, (), 9.0),
        ([], 2, (), 0.0),
        ([5.0], 1, (2.0,), 5.0),
        ([5.0, 5.0], 1, (2.0,), 7.0),
    ],
)
def test_each_trial_goes_to_the_worker_that_is_free_first(
    durations: list[float], workers: int, busy: tuple[float, ...], seconds: float
) -> None:
    assert makespan(durations, workers, busy) == seconds


def test_the_cells_of_a_grid_take_what_their_kinds_take() -> None:
    plan = plan_of(f"{BATCH}=16,32", f"{LR}=1e-4,1e-3")
    # 120 s and 70 s, each twice, two workers: 120 + 70.
    quote = make_quote(plan, timed(plan, 1.0, 0.5), 4, 0, 2, "best")
    assert (quote.seconds, quote.pruned_seconds, quote.share) == (190.0, 190.0, 1.0)
    assert quote.energy_kwh == pytest.approx(380 * 1e-5)
    assert quote.co2eq_kg == pytest.approx(380 * 4e-6)
    # For each worker three checkpoints and a model, and the best model twice.
    assert quote.disk_bytes == 2 * (3 * 300 + 100) + 2 * 100
    assert quote.ram_bytes == 2 * GIB
    assert make_quote(plan, timed(plan, 1.0, 0.5), 4, 0, 2, "all").disk_bytes == 2 * 1000 + 4 * 100
    # What is left of it: the last cells.
    assert make_quote(plan, timed(plan, 1.0, 0.5), 1, 3, 2, "best").seconds == 70.0


def test_sampled_trials_take_the_mean_over_uniform_draws() -> None:
    plan = plan_of(f"{BATCH}=16,32", f"{LR}=interval(1e-4,1e-3)", "study.n_trials=10")
    quote = make_quote(plan, timed(plan, 1.0, 0.5), 10, 0, 1, "best")
    assert quote.seconds == pytest.approx(10 * 95, rel=0.05)


def test_a_value_of_a_range_takes_what_the_nearer_end_takes() -> None:
    plan = plan_of(f"{BATCH}=int(interval(10,49))", "study.n_trials=10")
    quote = make_quote(plan, timed(plan, 1.0, 0.5), 10, 0, 1, "best")
    assert quote.seconds == pytest.approx(10 * 95, rel=0.05)


def test_trials_of_a_kind_that_cannot_be_trained_take_no_time_and_are_named() -> None:
    plan = plan_of(f"{BATCH}=16,32", f"{LR}=1e-4,1e-3")
    quote = make_quote(plan, timed(plan, 1.0, "out of memory"), 4, 0, 1, "best")
    assert quote.seconds == 240.0
    assert "cannot be trained here: batch_size=32: out of memory" in quote_lines(quote, plan)


@pytest.mark.parametrize(
    ("hours", "workers", "trials"),
    [(0.03, 1, 0), (0.034, 1, 1), (1.0, 1, 30), (1.0, 4, 120), (0.05, 2, 2)],
)
def test_a_budget_buys_as_many_trials_as_fit(hours: float, workers: int, trials: int) -> None:
    plan = plan_of(f"{LR}=interval(1e-4,1e-3)", "study.n_trials=10")
    kinds = timed(plan, 1.0)  # 120 s
    assert affordable(plan, kinds, None, workers, hours * 3600) == trials
    assert affordable(plan, kinds, 20, workers, hours * 3600) == min(trials, 20)


def test_a_pruner_that_halves_trains_less_and_a_budget_buys_more() -> None:
    words = (f"{LR}=interval(1e-4,1e-3)", "study.n_trials=10")
    plans = {name: plan_of(*words, f"study.pruner={name}") for name in ("none", "successive_halving", "median")}
    shares = {name: trained_share(plan, 40) for name, plan in plans.items()}
    assert shares["none"] == 1.0
    # Of an endless study of independent trials: 1/8, then half of them to 1/4, a quarter to 1/2, an eighth to the end.
    assert 0.125 + 0.5 * 0.125 + 0.25 * 0.25 + 0.125 * 0.5 < shares["successive_halving"] < 0.6
    assert shares["successive_halving"] < 1
    assert 0.3 < shares["median"] < 0.7
    assert trained_share(plans["median"], 40) == shares["median"]
    hour = {name: affordable(plan, timed(plan, 1.0), None, 1, 3600) for name, plan in plans.items()}
    assert hour["none"] < hour["median"]
    # The first trials are never pruned.
    assert trained_share(plans["median"], 4) == 1.0


def test_lines_of_a_quote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=8 * GIB))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=16 * GIB))
    plan = plan_of(f"{BATCH}=16,32", f"{LR}=1e-4,1e-3")
    kinds = timed(plan, 1.0, 0.5)
    first = next(iter(kinds.values()))
    large = replace(first.timings[0], gpu_gib=3.25, checkpoint_bytes=GIB, model_bytes=GIB // 2)
    quote = make_quote(plan, {**kinds, next(iter(kinds)): replace(first, timings=(large,))}, 4, 0, 2, "best")
    assert quote_lines(quote, plan) == [
        "",
        "               steps  s/step  s/evaluation  evaluations  a trial",
        "batch_size=16    100       1             2            5    2m00s",
        "batch_size=32    100     0.5             2            5    1m10s",
        "4 trials by 2 workers: 3m10s",
        "energy: 3.8 Wh, 1.52 g CO2eq",
        "disk: at most 8 GiB (8 GiB are free); memory: 2 GiB (of 16 GiB); GPU memory: 3.2 GiB a worker",
        "measured now, on this machine as busy as it is; without start of workers and test scores",
    ]


# --- study.budget_hours


BUDGET = (f"{LR}=interval(1e-4,1e-3)", "study.name=bought")


def frozen(hours: float, n_trials: int) -> dict[str, object]:
    plan = plan_of(*BUDGET, f"study.budget_hours={hours}")
    quote: Quote = make_quote(plan, timed(plan, 1.0), n_trials, 0, 1, "best")
    return quote.tree(hours)


def test_a_budget_is_turned_into_trials_once_and_kept() -> None:
    request = pass_sweep((*BUDGET, "study.budget_hours=8"))
    assert request.n_trials is None
    assert find_study(request) is None
    assert open_study(request, frozen(8, 7)).n_trials == 7
    # Another machine that began at the same time has measured something else.
    assert open_study(request, frozen(8, 9)).n_trials == 7
    assert open_study(request).n_trials == 7
    assert open_study(pass_sweep(("study.name=bought",))).n_trials == 7
    kept = open_study(request)._study.user_attrs["embedsweep.quote"]
    assert (kept["budget_hours"], kept["seconds"], kept["kinds"]) == (8, 840.0, [{"values": {}, "trial_s": 120.0}])
    assert open_study(pass_sweep((*BUDGET, "study.n_trials=12"))).n_trials == 12


@pytest.mark.parametrize(
    ("begun", "message"),
    [
        (("study.budget_hours=8",), "was 8 when this study was begun, and cannot be 9 now: set study.n_trials instead"),
        (("study.n_trials=7",), "was not set when this study was begun, and cannot be 9 now: set study.n_trials"),
    ],
)
def test_another_budget_than_the_study_was_begun_with_is_refused(begun: tuple[str, ...], message: str) -> None:
    quote = frozen(8, 7) if "study.n_trials=7" not in begun else None
    open_study(pass_sweep((*BUDGET, *begun)), quote)
    with pytest.raises(ConfigError, match=message):
        open_study(pass_sweep((*BUDGET, "study.budget_hours=9")))


def test_a_budget_beside_a_number_of_trials_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"decides the number of trials, and study\.n_trials does so, too: leave one"):
        pass_sweep((*BUDGET, "study.n_trials=7", "study.budget_hours=8"))


def test_a_grid_has_at_most_its_cells_whatever_the_budget() -> None:
    request = pass_sweep((f"{LR}=1e-4,1e-3", "study.budget_hours=8"))
    assert request.n_trials == 2
