"""The parts of the GPU benchmark that need no GPU: its points, commands and limits, and reading a study."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import optuna
import psutil
import pynvml
import pytest
from benchmarks.gpu import benchmark, processes
from benchmarks.gpu.__main__ import main, parse_limits
from benchmarks.gpu.benchmark import ENDING_S, Benchmark, Limits
from benchmarks.gpu.nvml import DeviceSampler, DeviceUse, Sample, use_of
from benchmarks.gpu.processes import MpsClients, ProcessEnd, run_limited
from benchmarks.gpu.results import Result, best_difference, compare
from benchmarks.gpu.table import report
from benchmarks.gpu.task import Point, Task, examples_by_loss, make_points, read_pairs
from benchmarks.gpu.trials import Trial, read_trials
from benchmarks.gpu.ways import Way, command, environment, parse_way, parse_ways
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from embedsweep.data.load import load_splits
from embedsweep.models.tiny import tiny_model_path
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep

BEGIN = datetime(2026, 11, 26, 12, 0, 0)
"""Local time, as Optuna's is."""
EXAMPLES = {"cosent": 5749, "mnrl": 1406}


def task_of(
    count: int,
    max_steps: int | None = None,
    device: str = "cuda",
    data: Path = Path("data"),
    model: Path = Path("model"),
) -> Task:
    return Task(model, data, device, make_points(count), max_steps, EXAMPLES)


# The points


def test_every_six_points_have_each_loss_with_each_batch_size() -> None:
    points = make_points(48)
    cells = set(product(("cosent", "mnrl"), (16, 32, 64)))
    for begin in range(0, 48, 6):
        block = points[begin : begin + 6]
        assert {(point.loss, point.batch_size) for point in block} == cells
    assert len(set(points)) == 48
    assert all(1e-5 <= point.lr <= 1e-4 and 0 <= point.warmup <= 0.2 for point in points)


def test_fewer_points_are_the_first_of_more() -> None:
    assert make_points(12) == make_points(48)[:12]


@pytest.mark.parametrize(
    ("loss", "batch_size", "max_steps", "steps", "at_rungs"),
    [
        ("cosent", 16, None, 360, (90, 180)),
        ("mnrl", 64, None, 22, (6, 11)),
        ("mnrl", 64, 4, 4, (1, 2)),
        ("mnrl", 64, 100, 22, (6, 11)),
    ],
)
def test_steps_of_a_trial_and_of_its_rungs(
    loss: str, batch_size: int, max_steps: int | None, steps: int, at_rungs: tuple[int, ...]
) -> None:
    task, point = task_of(6, max_steps), Point(loss, batch_size, 1e-5, 0.1)
    assert task.steps(point) == steps
    assert tuple(task.steps_at_rung(point, reports) for reports in (1, 2)) == at_rungs


def test_a_trial_of_an_unknown_point_is_an_error() -> None:
    task = task_of(6)
    assert [task.number_of(point) for point in task.points] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(LookupError, match="none of the 6 points of the task"):
        task.number_of(Point("cosent", 16, 0.5, 0.1))


def test_pairs_are_read_with_scores_up_to_one(tmp_path: Path) -> None:
    (tmp_path / "stsb-en-train.csv").write_text(
        '"One, two",Three,5.0\nFour,Five,4.0\nSix,Seven,1.5\n', encoding="utf-8"
    )
    pairs = read_pairs(tmp_path, "train")
    assert pairs == [("One, two", "Three", 1.0), ("Four", "Five", 0.8), ("Six", "Seven", 0.3)]
    assert examples_by_loss(pairs) == {"cosent": 3, "mnrl": 2}


# The ways


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("A", Way("A")),
        ("B1", Way("B1", 1)),
        ("B16+m", Way("B16+m", 16, mps=True)),
        ("B8+p+g+m", Way("B8+p+g+m", 8, mps=True, graphs=True, pruning=True)),
    ],
)
def test_ways_by_name(name: str, way: Way) -> None:
    assert parse_way(name) == way


@pytest.mark.parametrize("name", ["", "C", "B", "B0", "B8+", "B8+x", "B8m", "A+m", "B8+m+m", "B8 "])
def test_an_unknown_way_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no way"):
        parse_way(name)


def test_a_way_named_twice_is_refused() -> None:
    assert [way.name for way in parse_ways("A,B8,B8+m")] == ["A", "B8", "B8+m"]
    with pytest.raises(ValueError, match="twice"):
        parse_ways("A,B8,B8")


@pytest.mark.parametrize(
    ("name", "there", "not_there"),
    [
        ("B8", ["workers.count=8", "workers.per_device=8"], ["trainer.cuda_graphs=true", "study.pruner"]),
        ("B8+g", ["trainer.cuda_graphs=true"], ["study.pruner"]),
        ("B4+m+p", ["workers.per_device=4", "study.pruner=successive_halving"], ["trainer.cuda_graphs=true"]),
    ],
)
def test_suffixes_become_overrides(name: str, there: Sequence[str], not_there: Sequence[str], tmp_path: Path) -> None:
    words = command(parse_way(name), task_of(6), tmp_path, 80, ["trainer.merge_columns=true"])
    assert set(there) <= set(words)
    assert not [word for word in words if word.startswith(tuple(not_there))]
    assert words[-1] == "trainer.merge_columns=true"
    assert "study.timeout=60" in words


@pytest.mark.parametrize("name", ["B2", "B2+p"])
def test_embedsweep_takes_the_overrides_and_all_points(name: str, data: Path, tmp_path: Path) -> None:
    task = task_of(12, 4, "cpu", data, Path(tiny_model_path()))
    gated = pass_sweep(command(parse_way(name), task, tmp_path, 80, [])[5:])
    assert gated.study.n_trials == 12
    assert gated.plan is not None
    keys = ("loss", "dataloader.batch_size", "optimizer.lr", "optimizer.warmup")
    points: list[Any] = [[dict(row)[key] for key in keys] for row in gated.plan.enqueue]
    assert tuple(Point(*values) for values in points) == task.points


def test_a_gets_its_arguments_as_a_file(tmp_path: Path) -> None:
    words = command(parse_way("A"), task_of(6), tmp_path, 80, ["trainer.merge_columns=true"])
    assert words[1:] == ["-m", "benchmarks.gpu.trainer_search", "spec.json"]
    spec = json.loads((tmp_path / "spec.json").read_text(encoding="utf-8"))
    assert (spec["seconds"], spec["max_steps"], spec["device"]) == (60, None, "cuda")
    assert tuple(Point(**point) for point in spec["points"]) == make_points(6)


@pytest.mark.parametrize(("name", "finds_mps"), [("A", False), ("B8+g", False), ("B8+m", True)])
def test_only_ways_with_mps_find_its_daemon(name: str, finds_mps: bool) -> None:
    inherited = {
        "CUDA_MPS_PIPE_DIRECTORY": "/pipe",
        "CUDA_MPS_LOG_DIRECTORY": "/log",
        "OMP_NUM_THREADS": "2",
        "HOME": "/",
    }
    variables = environment(parse_way(name), inherited)
    assert ("CUDA_MPS_PIPE_DIRECTORY" in variables, "CUDA_MPS_LOG_DIRECTORY" in variables) == (finds_mps, finds_mps)
    assert variables["HOME"] == "/"
    assert "OMP_NUM_THREADS" not in variables


# The studies' storage


def open_journal(path: Path) -> JournalStorage:
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


DISTRIBUTIONS = {
    "loss": CategoricalDistribution(("cosent", "mnrl")),
    "lr": FloatDistribution(1e-5, 1e-4, log=True),
    "warmup": FloatDistribution(0, 0.2),
    "batch": CategoricalDistribution((16, 32, 64)),
}


def frozen(
    point: Point, names: dict[str, str], state: TrialState, begin: float, end: float | None, **more: Any
) -> optuna.trial.FrozenTrial:
    """A trial in Optuna's form; ``names`` are the parameters' by those of ``DISTRIBUTIONS``."""
    values = {"loss": point.loss, "lr": point.lr, "warmup": point.warmup, "batch": point.batch_size}
    running = create_trial(
        state=TrialState.FAIL if state is TrialState.RUNNING else state,
        params={names[key]: values[key] for key in names},
        distributions={names[key]: DISTRIBUTIONS[key] for key in names},
        **more,
    )
    running.datetime_start = BEGIN + timedelta(seconds=begin)
    running.datetime_complete = None if end is None else BEGIN + timedelta(seconds=end)
    running.state = state
    return running


OURS = {
    "loss": "loss",
    "lr": "optimizer.lr [loss=cosent,mnrl]",
    "warmup": "optimizer.warmup",
    "batch": "dataloader.batch_size",
}
THEIRS = {"lr": "learning_rate", "warmup": "warmup_steps", "batch": "per_device_train_batch_size"}


def test_trials_of_embedsweep_are_read_from_its_journal(tmp_path: Path) -> None:
    task = task_of(6)
    points = task.points
    study = optuna.create_study(
        storage=open_journal(tmp_path / "sweeps" / "compare" / "journal.log"),
        study_name="compare",
        direction="maximize",
    )
    study.add_trial(frozen(points[0], OURS, TrialState.COMPLETE, 1.5, 9, value=0.88))
    study.add_trial(frozen(points[1], OURS, TrialState.PRUNED, 2, 6, value=0.7, intermediate_values={1: 0.6, 2: 0.7}))
    study.add_trial(frozen(points[2], OURS, TrialState.FAIL, 2, 3))
    study.add_trial(frozen(points[3], OURS, TrialState.RUNNING, 7, None))
    study.add_trial(frozen(points[4], OURS, TrialState.WAITING, 7, None))  # its worker died: it waits for another
    study.enqueue_trial({"loss": "cosent"})

    trials = read_trials(parse_way("B2"), tmp_path, task)

    start = BEGIN.timestamp()
    assert trials == [
        Trial(2, points[2], "FAIL", start + 2, start + 3, 0, None),
        Trial(1, points[1], "PRUNED", start + 2, start + 6, math.ceil(1406 / 16 / 2), None),
        Trial(0, points[0], "COMPLETE", start + 1.5, start + 9, 360, 0.88),
        Trial(3, points[3], "RUNNING", start + 7, None, 0, None),
    ]


def test_trials_of_the_peer_are_read_from_a_study_for_each_loss(tmp_path: Path) -> None:
    task = task_of(6)
    storage = open_journal(tmp_path / "journal.log")
    for number, loss in ((0, "cosent"), (1, "mnrl")):
        study = optuna.create_study(storage=storage, study_name=loss, direction="maximize")
        study.add_trial(frozen(task.points[number], THEIRS, TrialState.COMPLETE, 9 * number, 8 + number, value=0.8))
    trials = read_trials(parse_way("A"), tmp_path, task)
    assert [(trial.number, trial.point.loss, trial.steps) for trial in trials] == [(0, "cosent", 360), (1, "mnrl", 88)]


def test_a_way_without_a_journal_has_no_trials(tmp_path: Path) -> None:
    assert read_trials(parse_way("A"), tmp_path, task_of(6)) == []
    assert read_trials(parse_way("B2"), tmp_path, task_of(6)) == []


# Figures


def trial(number: int, begin: float, end: float | None, score: float | None = 0.8, state: str = "COMPLETE") -> Trial:
    point = make_points(number + 1)[-1]
    steps = {"COMPLETE": 100, "PRUNED": 20}.get(state, 0)
    return Trial(number, point, state, begin, end, steps, score if state == "COMPLETE" else None)


def result(name: str, *trials: Trial, wall: float = 100, n_points: int = 4, **more: Any) -> Result:
    values = {
        "mps_clients": None,
        "use": DeviceUse(),
        "ended": ProcessEnd(1000.0, 1000 + wall, 0, False, False),
        **more,
    }
    return Result(parse_way(name), n_points, values["ended"], trials, values["mps_clients"], values["use"])


PEER = result("A", trial(0, 1010, 1030, 0.86), trial(1, 1030, 1050, 0.88), wall=50)
WAY = result(
    "B4",
    trial(0, 1020, 1024, 0.861),
    trial(2, 1021, 1036, None, "FAIL"),
    trial(3, 1021, 1028, 0.89),
    trial(1, 1020, 1030, None, "PRUNED"),
    trial(4, 1026, None, None, "RUNNING"),
    wall=40,
    n_points=5,
)


def test_rates_are_of_the_trials_that_ended() -> None:
    assert (WAY.count("COMPLETE"), WAY.count("PRUNED"), WAY.count("FAIL")) == (2, 1, 1)
    assert (WAY.wall_s, WAY.to_first_s, WAY.span_s) == (40, 20, 10)
    assert (WAY.per_minute, WAY.per_minute_of_wall) == (18, 4.5)
    assert WAY.steps_per_s == 22
    assert WAY.steps_per_trial == pytest.approx(220 / 3)
    assert WAY.gpu_s_per_trial == pytest.approx(10 / 3)
    assert WAY.best == 0.89
    assert WAY.measured_between == (1020.0, 1030.0)


def test_a_way_without_trials_has_no_rates() -> None:
    empty = result("B4", trial(0, 1005, None, None, "RUNNING"))
    assert empty.to_first_s == 5
    rates = [empty.span_s, empty.per_minute, empty.per_minute_of_wall, empty.steps_per_s, empty.gpu_s_per_trial]
    assert all(rate is None for rate in rates)
    assert empty.measured_between == (1000.0, 1100.0)
    assert result("B4").to_first_s is None


def test_ratios_to_the_peer() -> None:
    beside = compare(WAY, PEER)  # A: 2 trials of 100 steps in 40 s of 50
    assert beside.per_minute == pytest.approx(18 / 3)
    assert beside.per_minute_of_wall == pytest.approx(4.5 / 2.4)
    assert beside.steps_per_s == pytest.approx(22 / 5)


def test_best_scores_are_compared_over_points_of_both_and_a_pruned_best_counts() -> None:
    common, difference = best_difference(WAY, PEER.scores)
    assert common == 2
    assert difference == pytest.approx(0.861 - 0.88)
    assert compare(WAY, PEER).best_difference == pytest.approx(0.861 - 0.88)
    failed = result("B4", trial(0, 1020, 1024, 0.861), trial(1, 1021, 1026, None, "FAIL"))
    assert compare(failed, PEER).best_difference == pytest.approx(0.861 - 0.86)
    assert compare(result("B4", trial(2, 1020, 1024)), PEER).best_difference is None


# The table


def row_of(text: str, name: str) -> list[str]:
    (cells,) = (line.split() for line in text.split("\n\n", maxsplit=1)[0].splitlines() if line.split()[0] == name)
    return cells


def test_the_table_has_a_row_for_each_way() -> None:
    use = DeviceUse(91.2, 310.4, 12.34, 7.25)
    text = report([PEER, result("B4+m", *WAY.trials, wall=40, n_points=5, use=use, mps_clients=4)])
    assert row_of(text, "way")[:5] == ["way", "workers", "MPS", "trials", "wall"]
    alone = "A 1 - 2/0/0 50.0 10.0 40.0 3.00 1.00 2.40 1.00 5.0 1.00 100 20.00 0.8800 +0.0000 - - - -"
    assert row_of(text, "A") == alone.split()
    beside = "B4+m 4 4 2/1/1 40.0 20.0 10.0 18.00 6.00 4.50 1.88 22.0 4.40 73 3.33 0.8900 -0.0190 91 310 12.3 7.2"
    assert row_of(text, "B4+m") == beside.split()


def several(name: str, count: int, span: float, score: float, **more: Any) -> Result:
    """A way whose ``count`` complete trials take turns over a span; the first has the score, the others .1."""
    each = span / count
    trials = [trial(i, 1010 + i * each, 1010 + (i + 1) * each, score if i == 0 else 0.1) for i in range(count)]
    return result(name, *trials, n_points=count, wall=span + 20, **more)


@pytest.mark.parametrize(
    ("name", "span", "score", "expected"),
    [
        (
            "B8",
            4.0,
            0.876,
            "B8: REACHED: 15.0 times A's trials a minute, at least 15; best dev -0.0040 over 6 points, within 0.005",
        ),
        (
            "B8",
            4.5,
            0.88,
            "B8: MISSED: 13.3 times A's trials a minute, below 15; best dev +0.0000 over 6 points, within 0.005",
        ),
        (
            "B8",
            4.0,
            0.87,
            "B8: MISSED: 15.0 times A's trials a minute, at least 15; best dev -0.0100 over 6 points, beyond 0.005",
        ),
        (
            "B8+p",
            4.0,
            0.9,
            "B8+p: MISSED: 15.0 times A's trials a minute, below 30; best dev +0.0200 over 6 points, within 0.005",
        ),
        (
            "B8+p",
            1.5,
            0.9,
            "B8+p: REACHED: 40.0 times A's trials a minute, at least 30; best dev +0.0200 over 6 points, within 0.005",
        ),
    ],
)
def test_the_goal_is_judged_by_rate_and_score(name: str, span: float, score: float, expected: str) -> None:
    assert f"  {expected}" in report([several("A", 6, 60, 0.88), several(name, 6, span, score)]).splitlines()


def test_pruning_is_judged_by_all_points_that_another_way_did_not_prune() -> None:
    peer = result("A", trial(0, 1010, 1050, 0.86))
    whole = result("B4", trial(0, 1010, 1020, 0.86), trial(1, 1010, 1020, 0.9), trial(2, 1010, 1020, 0.87))
    pruned = result(
        "B4+p", trial(0, 1010, 1011, None, "PRUNED"), trial(1, 1010, 1011, None, "PRUNED"), trial(2, 1010, 1012, 0.87)
    )
    assert "B4+p: not judged, no complete trial to compare" in report([peer, pruned])
    assert "best dev -0.0300 over 3 points, beyond 0.005" in report([peer, pruned, whole])


def test_ways_with_a_different_mix_are_judged_by_steps() -> None:
    heavy = Trial(0, make_points(1)[0], "COMPLETE", 1010, 1020, 1000, 0.88)
    assert "B4: REACHED: 20.0 times A's steps/s, at least 15" in report([PEER, result("B4", heavy)])


def test_nothing_is_judged_without_the_peer() -> None:
    assert "not judged: A has no trials" in report([WAY])
    assert "not judged: A has no trials" in report([result("A"), WAY])
    assert "REACHED" not in report([WAY])
    assert "B4: not judged, no complete trial to compare" in report([PEER, result("B4", trial(3, 1010, 1020))])


def test_notes_explain_the_figures() -> None:
    cut = ProcessEnd(1000.0, 1080.0, -15, True, False)
    text = report(
        [
            several("A", 2, 40, 0.88),
            several("B8+m", 6, 20, 0.88, mps_clients=3),
            result("B4", trial(0, 1010, 1020), trial(1, 1010, 1020, None, "FAIL"), ended=cut),
        ]
    )
    for line in (
        "ended at its time limit: B4 (1 of 4)",
        "fewer trials than points: B4 (1 of 4)",
        "trials failed: B4 (1)",
        "B8+m: 3 MPS clients seen, 8 expected",
    ):
        assert line in text.splitlines()
    assert "A trained 2 of the points that the others were given" in text
    assert "different mix" not in text


def test_a_different_mix_of_trials_is_noted() -> None:
    heavy = Trial(0, make_points(1)[0], "COMPLETE", 1010, 1020, 110, 0.8)
    assert "B4: its trials had 1.10 times the steps of A's" in report([PEER, result("B4", heavy)])
    assert "its trials had" not in report([PEER, result("B4+p", heavy)])


# The GPU


def test_use_is_that_of_the_samples_in_the_span() -> None:
    samples = [
        Sample(0, 10, 1000, 99),
        Sample(10, 50, 200, math.nan),
        Sample(15, math.nan, 300, 5),
        Sample(20, 70, 400, 3),
        Sample(21, 10, 1000, 99),
    ]
    assert use_of(samples, 10, 20) == DeviceUse(60, 300, 3.0, 5)
    assert use_of([], 10, 20) == DeviceUse()


def test_without_a_gpu_there_are_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    sampler = DeviceSampler()
    sampler.start()
    sampler.join(5)
    assert not sampler.is_alive()
    assert sampler.device.startswith("no GPU")
    assert sampler.samples == []


class FakeMemory:
    used = 3 * 2**30


def test_a_gpu_is_read_in_watts_and_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    for name, function in {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: f"GPU {index}",
        "nvmlDeviceGetName": lambda handle: f"H100 ({handle})",
        "nvmlSystemGetDriverVersion": lambda: b"580.1",
        "nvmlDeviceGetUtilizationRates": refuse,
        "nvmlDeviceGetPowerUsage": lambda _: 250_500,
        "nvmlDeviceGetMemoryInfo": lambda _: FakeMemory,
    }.items():
        monkeypatch.setattr(pynvml, name, function)
    sampler = DeviceSampler()
    assert sampler.device == "H100 (GPU 0), driver 580.1"
    sample = sampler.read()
    assert math.isnan(sample.utilisation)
    assert (sample.power, sample.memory) == (250.5, 3.0)


@pytest.fixture
def mps_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control program with two servers, that serve the numbers of clients in a file."""
    script = tmp_path / "control"
    script.write_text(
        "#!/bin/sh\nread question server\n"
        'case "$question" in get_server_list) echo 7; echo 8;;\n'
        f'*) grep "^$server:" {tmp_path}/clients | cut -d: -f2;; esac\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    monkeypatch.setenv("GPU_MPS_CONTROL", str(script))
    monkeypatch.setattr(processes, "MPS_EVERY_S", 0.0)
    return tmp_path / "clients"


def test_clients_of_mps_are_counted_over_all_servers(mps_control: Path) -> None:
    clients = MpsClients(4)
    for text, most in (("7:11 12\n8:13\n", 3), ("7:11\n", 3), ("7:1 2 3\n8:4\n", 4), ("7:1 2 3 4 5\n", 4)):
        mps_control.write_text(text, encoding="utf-8")
        clients.watch()
        assert clients.most == most  # once all are seen, nothing is gated any more


def test_without_a_control_program_the_count_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_MPS_CONTROL", "/no/such/program")
    monkeypatch.setattr(processes, "MPS_EVERY_S", 0.0)
    clients = MpsClients(4)
    clients.watch()
    assert clients.most is None


# Processes and limits


def run_python(code: str, folder: Path, limit_s: float, interrupted: threading.Event | None = None) -> ProcessEnd:
    return run_limited(
        [sys.executable, "-c", code],
        folder,
        {},
        folder / "log.txt",
        limit_s,
        interrupted or threading.Event(),
        lambda: None,
    )


def test_a_command_that_ends_by_itself_has_its_code_and_log(tmp_path: Path) -> None:
    ended = run_python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)", tmp_path, 60)
    assert (ended.code, ended.is_timed_out, ended.is_interrupted) == (3, False, False)
    assert sorted((tmp_path / "log.txt").read_text(encoding="utf-8").split()) == ["err", "out"]


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open("pids", "w").write(f"{os.getpid()} {child.pid} ")
time.sleep(600)
"""


def test_at_the_limit_a_command_is_ended_with_all_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_S", (0.2, 0.2))
    ended = run_python(STUBBORN, tmp_path, 2)
    assert (ended.code, ended.is_timed_out, ended.is_interrupted) == (-signal.SIGKILL, True, False)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text(encoding="utf-8").split()]
    assert len(pids) == 2
    wait_for_none(pids)


def test_an_interruption_ends_the_command_and_is_not_a_time_limit(tmp_path: Path) -> None:
    interrupted = threading.Event()
    interrupted.set()
    ended = run_python("import time; time.sleep(600)", tmp_path, 60, interrupted)
    assert (ended.code, ended.is_timed_out, ended.is_interrupted) == (-signal.SIGTERM, False, True)


def wait_for_none(pids: Sequence[int]) -> None:
    def is_alive(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    ends = time.monotonic() + 10
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < ends, f"still alive: {alive}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("name", "elapsed", "limit"),
    [("A", 0, 120), ("B8", 0, 80), ("B8", 350, 80), ("B8", 380, 50), ("B8", 395, 35), ("B8", 396, None)],
)
def test_a_way_takes_what_is_left_at_most(name: str, elapsed: float, limit: float | None) -> None:
    assert Limits(450, {"A": 120, "*": 80}).left_for(parse_way(name), elapsed) == limit


def test_a_way_without_a_limit_takes_what_is_left() -> None:
    limits = Limits(450, parse_limits("A=120"))
    assert limits.left_for(parse_way("B2"), 100) == 450 - ENDING_S - 100


@pytest.mark.parametrize("text", ["", "A=x,*=80", "A,*", "*=0"])
def test_invalid_limits_are_refused(text: str) -> None:
    assert parse_limits("A=120,*=80") == {"A": 120, "*": 80}
    with pytest.raises(ValueError, match=r"--limits .*such as A=120,\*=80"):
        parse_limits(text)


# The whole


FAKE_WAY = """
import sys
from datetime import datetime, timedelta
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
study = optuna.create_study(storage=JournalStorage(JournalFileBackend("journal.log")), study_name="cosent")
names = ("learning_rate", "warmup_steps", "per_device_train_batch_size")
floats = optuna.distributions.FloatDistribution(0, 100)
trial = optuna.create_trial(params=dict(zip(names, POINT)), distributions=dict.fromkeys(names, floats), value=.5)
study.add_trial(trial)
print("trained one")
sys.exit(CODE)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        rows = [f"Text {split} {i},Other text {i % 7},{i % 6}.0" for i in range(60)]
        (folder / f"stsb-en-{split}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_results_so_far_are_written_after_each_way(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = task_of(6, 1, "cpu", data)
    point = task.points[0]
    fake = FAKE_WAY.replace("POINT", repr((point.lr, point.warmup, point.batch_size)))

    def fake_command(way: Way, *_: Any) -> list[str]:
        return [
            sys.executable,
            "-c",
            fake.replace("CODE", "0") if way.is_peer else "print('broken'); raise SystemExit(1)",
        ]

    monkeypatch.setattr(benchmark, "command", fake_command)
    out = tmp_path / "out"
    out.mkdir()
    run = Benchmark(task, 1, (), Limits(300, {"*": 60}), False, tmp_path / "work", out, {})
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        run.run(parse_ways("A,B2"))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert [len(result.done) for result in run.results] == [1, 0]
    printed = capsys.readouterr().out
    assert "  | broken" in printed
    assert "trained one" not in printed
    text = (out / "compare.txt").read_text(encoding="utf-8")
    assert text in printed
    assert printed.count("workers") == 3, "after each way, and at the end"
    assert row_of(text, "A")[3] == "1/0/0"
    assert row_of(text, "B2")[3] == "0/0/0"
    figures = json.loads((out / "compare.json").read_text(encoding="utf-8"))
    (only,) = figures["ways"][0]["trials"]
    assert (only["loss"], only["batch_size"], only["lr"], only["steps"], only["score"], only["state"]) == (
        "cosent", 16, point.lr, 1, 0.5, "COMPLETE",
    )  # fmt: skip
    with tarfile.open(out / "logs.tar.gz") as logs:
        assert sorted(logs.getnames()) == ["A/journal.log", "A/log.txt", "B2/log.txt"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--ways", "B8+x"], "no way 'B8+x'"),
        (["--limits", "A=0"], "--limits A=0"),
        (["--trials", "0"], "--trials 0: must be at least 1"),
        (["--trials-a", "0"], "--trials-a 0: must be at least 1"),
        (["--model", "/no/such"], "--model: no such folder: /no/such"),
        (["--data", ""], "--data: needs a folder"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(
    arguments: list[str], expected: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", str(data), "--data", str(data), "--out", str(tmp_path / "out"), *arguments]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ways_with_mps_are_skipped_without_mps(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    words = ["--model", str(data), "--data", str(data), "--out", str(tmp_path / "out"), "--ways", "B8+m,B4+m+g"]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert main(words) == 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    printed = capsys.readouterr().out
    assert "MPS is not there (CUDA_MPS_PIPE_DIRECTORY is not set): left out B8+m, B4+m+g" in printed
    assert "started" not in printed


def write_demo_pairs(folder: Path) -> None:
    """Write 400 pairs of the demo, whose language the tiny model knows, a split in the form of the STS benchmark."""
    config = pass_single(["model=tiny", "data=demo"]).config
    train = load_splits(config.data, config.evaluation).train
    assert train.labels is not None
    pairs = list(zip(*train.texts, [5 * score for score in train.labels], strict=True))
    folder.mkdir()
    for number, split in enumerate(("train", "dev", "test")):
        with (folder / f"stsb-en-{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(pairs[400 * number : 400 * (number + 1)])


@pytest.mark.slow
def test_both_searches_train_the_same_trials(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_demo_pairs(data)
    words = ["--model", str(tiny_model_path()), "--data", str(data), "--out", str(tmp_path / "out"), "--device", "cpu"]
    ways = ["--trials", "4", "--trials-a", "2", "--ways", "A,B2+p", "--seconds", "500", "--limits", "*=240"]
    command = [sys.executable, "-m", "benchmarks.gpu", *words, *ways]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))
    peer, ours = figures["ways"]
    assert [trial["number"] for trial in sorted(peer["trials"], key=lambda trial: trial["number"])] == [0, 1]
    assert (peer["complete"], ours["complete"] + ours["pruned"], ours["failed"]) == (2, 4, 0)
    # The model has no dropout, and both shuffle alike: what both completed differs by rounding alone.
    theirs = {trial["number"]: trial["score"] for trial in peer["trials"]}
    common = [trial for trial in ours["trials"] if trial["number"] in theirs and trial["score"] is not None]
    assert common
    for trial_ in common:
        assert trial_["score"] == pytest.approx(theirs[trial_["number"]], abs=5e-4)
