"""Timing the kinds of trials of a study, with fake processes and with real ones beside the real sweep."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedsweep.cli import main
from embedsweep.commands.quoting import quote_study
from embedsweep.config.study import EmissionsConfig
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import ConfigError, Interrupted, WorkerError
from embedsweep.evaluation.dev import DevEvaluator
from embedsweep.study.quote import Kind, TimedKind, Timing, kinds_of
from embedsweep.study.reading import read_study
from embedsweep.training.steps import count_evaluations
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers import quoting
from embedsweep.workers.job import QuoteOrder
from embedsweep.workers.quote_process import PARTS, steps_of, time_each
from embedsweep.workers.quoting import _Timer
from tests.study.test_quote import TIMING

PROCESS = """if True:
    import os, pickle, sys
    class Anything:
        def __init__(self, *_): pass
    class Reader(pickle.Unpickler):
        def find_class(self, *_): return Anything
    def tell(*event):
        pickle.dump(event, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    if "FAILS" in os.environ:
        sys.exit("no such library")
    tell("ready")
    for index, config in Reader(open(0, "rb")).load().configs.items():
        tell("begun", index)
        if config == "killed":
            os.kill(os.getpid(), 9)
        if config == "large":
            tell("failed", index, "TrialError: out of memory")
        else:
            tell("timed", index, f"{config} in {os.environ['NAME']}")
"""


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def timed_by(folder: Path, monkeypatch: pytest.MonkeyPatch, names: str, *configs: str) -> _Timer:
    """What processes of these names (letters) found."""
    monkeypatch.setattr(quoting, "COMMAND", (sys.executable, "-c", PROCESS))
    trials: Any = configs
    environments = [{"NAME": name} for name in names]
    timer = _Timer(trials, (), environments, folder, EmissionsConfig("", None), None, False, lambda _: None)
    timer.run()
    return timer


def test_every_process_times_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timer = timed_by(tmp_path, monkeypatch, "ab", "small", "medium")
    assert {index: sorted(map(str, found)) for index, found in timer.timings.items()} == {
        0: ["small in a", "small in b"],
        1: ["medium in a", "medium in b"],
    }
    assert timer.problems == {}


def test_a_kind_that_fails_or_kills_its_process_is_noted_and_the_others_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timer = timed_by(tmp_path, monkeypatch, "a", "small", "killed", "large", "medium")
    assert {index: list(map(str, found)) for index, found in timer.timings.items()} == {
        0: ["small in a"],
        3: ["medium in a"],
    }
    assert timer.problems == {
        1: "its process was killed by SIGKILL: perhaps out of memory",
        2: "TrialError: out of memory",
    }


def test_a_process_that_cannot_work_ends_the_quote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "yes")
    with pytest.raises(WorkerError, match=r"(?s)a process of the quote ended with exit code 1; .*no such library"):
        timed_by(tmp_path, monkeypatch, "a", "small")


def test_a_budget_too_small_for_one_trial_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    request = pass_sweep(("optimizer.lr=interval(1e-4,1e-3)", "study.budget_hours=0.01"))
    assert request.plan is not None
    kinds: dict[Kind, TimedKind] = {kind: TimedKind({}, (TIMING,), None) for kind in kinds_of(request.plan)}
    monkeypatch.setattr("embedsweep.commands.quoting.time_kinds", lambda *_: (kinds, 1))
    message = "study.budget_hours: 0.01 hours are too little for one trial, which takes up to 2m00s: set more"
    with pytest.raises(ConfigError, match=message):
        quote_study(request, None, print)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "study.enqueue=[{optimizer.lr:1e-4},{optimizer.lr:2e-4},{optimizer.lr:3e-4}]",
            r"study.enqueue: has 3 configurations, more than the 2 of study.budget_hours=0.07: try fewer, or raise it",
        ),
        ("study.patience=2", "study.patience: 2 is never reached in a study of 2 trials: set less, or leave it out"),
    ],
)
def test_a_budget_too_small_for_what_the_study_asks_for_is_refused(
    word: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = pass_sweep(("optimizer.lr=interval(1e-4,1e-3)", "study.budget_hours=0.07", word))
    assert request.plan is not None
    kinds: dict[Kind, TimedKind] = {kind: TimedKind({}, (TIMING,), None) for kind in kinds_of(request.plan)}
    monkeypatch.setattr("embedsweep.commands.quoting.time_kinds", lambda *_: (kinds, 1))
    with pytest.raises(ConfigError, match=message):
        quote_study(request, None, print)


@pytest.mark.parametrize(("step_s", "steps"), [(0.1, 12), (0.8, 10), (1.5, 5), (60.0, 4)])
def test_a_slow_model_is_timed_for_fewer_steps(step_s: float, steps: int) -> None:
    assert steps_of("cpu", step_s) == steps
    assert 1 <= steps // PARTS < steps  # the first part can be left out


@pytest.mark.parametrize(
    ("words", "broken", "trained"),
    [
        # A step before the first kind, or before the first that can be trained.
        (("loss=mnrl,cosent",), "", [("mnrl", 1), ("mnrl", 12), ("cosent", 12)]),
        (("loss=mnrl,cosent",), "mnrl", [("mnrl", 1), ("cosent", 1), ("cosent", 12)]),
        # What is made once for each data configuration: its examples and their negatives.
        (
            ("loss=mnrl", "data.limit=60,64", "optimizer.lr=1e-4,1e-3"),
            "",
            [("mnrl 60", 1), ("mnrl 60", 12), ("mnrl 64", 1), ("mnrl 64", 12)],
        ),
    ],
)
def test_what_is_done_once_is_done_before_a_kind_is_timed(
    words: Sequence[str], broken: str, trained: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = pass_sweep(words).plan
    assert plan is not None
    configs = dict(enumerate(config for _, config in kinds_of(plan).values()))
    calls: list[tuple[str, int]] = []

    def time_trial(
        config: TrialConfig, _order: object, _models: object, _group: object, steps: int, _: object
    ) -> Timing:
        calls.append((" ".join(map(str, filter(None, [config.loss.name, config.data.limit]))), steps))
        if config.loss.name == broken:
            raise RuntimeError("too large")
        return TIMING

    monkeypatch.setattr("embedsweep.workers.quote_process.time_trial", time_trial)
    monkeypatch.setattr("embedsweep.workers.quote_process.steps_of", lambda *_: 12)
    sent: list[tuple[object, ...]] = []
    time_each(QuoteOrder(configs, tmp_path, EmissionsConfig("", None), None, False), "cpu", None, sent.append)
    assert calls == trained
    failed = [message[1] for message in sent if message[0] == "failed"]
    assert failed == [index for index, config in configs.items() if config.loss.name == broken]


def test_kinds_of_one_model_and_data_score_dev_once_and_larger_batches_are_timed_for_fewer_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = pass_sweep(("loss=mnrl", "data.limit=60,64", "dataloader.batch_size=8,32")).plan
    assert plan is not None
    configs = dict(enumerate(config for _, config in kinds_of(plan).values()))
    calls: list[tuple[int | None, int, int]] = []
    evaluators: dict[int | None, set[int]] = {}

    def time_trial(
        config: TrialConfig, _order: object, _models: object, _group: object, steps: int, evaluator: object
    ) -> Timing:
        calls.append((config.data.limit, config.dataloader.batch_size, steps))
        evaluators.setdefault(config.data.limit, set()).add(id(evaluator))
        return replace(TIMING, step_s=1.0)

    monkeypatch.setattr("embedsweep.workers.quote_process.time_trial", time_trial)
    order = QuoteOrder(configs, tmp_path, EmissionsConfig("", None), None, False)
    time_each(order, "cpu", None, lambda _: None)
    # A batch of 8 takes a second, so that one of 32 takes four: eight seconds are two of them, and four the fewest.
    timed = [(60, 8, 1), (60, 8, 8), (60, 32, 4), (64, 8, 1), (64, 8, 8), (64, 32, 4)]
    assert sorted(calls) == sorted(timed)
    assert [len(each) for each in evaluators.values()] == [1, 1]


def test_an_interrupted_quote_says_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted(2)

    monkeypatch.setattr("embedsweep.commands.quoting.time_kinds", interrupt)
    said: list[str] = []
    with pytest.raises(Interrupted):
        quote_study(pass_sweep(("loss=mnrl,cosent",)), None, said.append)
    assert said == [
        "interrupted: there is no quote, and nothing was created or trained; the same command begins it anew"
    ]


@pytest.mark.parametrize("mixes_models", [False, True])
def test_a_study_that_mixes_models_is_timed_with_building_them(
    mixes_models: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = pass_sweep(("loss=mnrl,cosent",)).plan
    assert plan is not None
    configs = dict(enumerate(config for _, config in kinds_of(plan).values()))
    made: list[str] = []

    def time_trial(_config: object, _order: object, _models: object, _group: object, steps: int, _: object) -> Timing:
        made.append(f"{steps} steps")
        return TIMING

    monkeypatch.setattr("embedsweep.workers.quote_process.time_trial", time_trial)
    monkeypatch.setattr("embedsweep.workers.quote_process.BuiltModels.drop", lambda _: made.append("drop"))
    order = QuoteOrder(configs, tmp_path, EmissionsConfig("", None), None, mixes_models)
    time_each(order, "cpu", None, lambda _: None)
    drop = ["drop"] * mixes_models
    assert made == ["1 steps", *drop, "8 steps", *drop, "8 steps"]


@pytest.mark.slow
def test_a_slow_evaluation_is_done_once_and_counted_for_each_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = pass_sweep(("loss=mnrl,cosent", "data.limit=64", "trainer.device=cpu", "trainer.max_steps=8")).plan
    assert plan is not None
    configs = dict(enumerate(config for _, config in kinds_of(plan).values()))
    scored: list[int] = []
    score = DevEvaluator.__call__

    def count(self: DevEvaluator, *args: Any, **kwargs: Any) -> dict[str, float]:
        scored.append(1)
        time.sleep(1.0)
        return score(self, *args, **kwargs)

    monkeypatch.setattr(DevEvaluator, "__call__", count)
    monkeypatch.setattr("embedsweep.workers.quote_process.REPEATED_FROM_S", 0.0)
    sent: list[tuple[Any, ...]] = []
    time_each(QuoteOrder(configs, tmp_path, EmissionsConfig("", None), None, False), "cpu", None, sent.append)
    assert len(scored) == 1
    first, second = (message[2] for message in sent if message[0] == "timed")
    for timing in (first, second):
        assert timing.eval_s > 1.0
        assert min(timing.step_s, timing.ram_bytes, timing.checkpoint_bytes) > 0
        assert (timing.steps, timing.evaluations) == (8, count_evaluations(configs[0], 8))


@pytest.mark.slow
def test_a_quote_times_each_kind_and_creates_nothing_and_a_budget_becomes_trials(
    capsys: pytest.CaptureFixture[str],
) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    words = ("train", "-m", "loss=mnrl,cosent", "data.limit=64", "trainer.device=cpu", "trainer.max_steps=8")
    assert main([*words, "study.name=bought", "study.dry_run=quote"]) == 0
    out = capsys.readouterr().out
    rows = [line.split()[:2] for line in out.splitlines() if line.startswith("loss=")]
    assert rows == [["loss=mnrl", "8"], ["loss=cosent", "8"]]
    assert "2 trials by 1 worker: " in out
    assert out.endswith("study.dry_run: nothing was created or trained\n")
    assert list(Path().iterdir()) == []

    budget = ("study.name=bought", "study.budget_hours=1", "workers=local", "workers.count=2")
    assert main([*words, *budget]) == 0
    out = capsys.readouterr().out
    assert "study.budget_hours=1: 2 trials, " in out
    assert "; study.n_trials can change it later\n" in out
    quote = yaml.safe_load(Path("sweeps/bought/study.yaml").read_text())["attributes"]["embedsweep.quote"]
    assert [kind["values"] for kind in quote["kinds"]] == [{"loss": "mnrl"}, {"loss": "cosent"}]
    assert (quote["n_trials"], quote["workers"], quote["budget_hours"]) == (2, 2, 1.0)
    study = read_study("bought")
    assert (len(study.complete_trials), study.is_complete) == (2, True)
    # The quote's figures are of the same order as those of the trials.
    costs = [result.emissions for trial in study.trials if (result := study.result_of(trial)) is not None]
    assert 0.01 < quote["energy_kwh"] / sum(cost.energy_kwh for cost in costs) < 100
    model = Path("sweeps/bought/trials/0001/model")
    size = max((file.stat().st_size for file in model.rglob("model.safetensors")), default=0)
    assert quote["disk_bytes"] > 6 * size
