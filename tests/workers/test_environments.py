"""Environments of workers on a machine with GPUs: MPS where they share one, and as many as a probe finds."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Self

import pytest

from embedsweep import machine as machine_module
from embedsweep.cli import main
from embedsweep.config.study import StudyPlan
from embedsweep.config.training import Switch
from embedsweep.config.workers import WorkersConfig
from embedsweep.machine import Gpu
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers import environments, probe
from embedsweep.workers.environments import open_environments

PIPE = {"CUDA_MPS_PIPE_DIRECTORY": "/t/mps/pipe"}


@functools.cache
def any_plan() -> StudyPlan:
    plan = pass_sweep(["loss=cosent,mnrl", "trainer.device=cpu"]).plan
    assert plan is not None
    return plan


class Machine:
    """Eight cores and GPUs, MPS that is available or not, and a probe with a fixed result."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.gpus = 1
        self.has_metal = True
        self.finds = 4
        self.events: list[str] = []
        self.probed: dict[str, Any] = {}
        self._folder = folder
        monkeypatch.chdir(folder)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(machine_module, "visible_cores", lambda: 8)
        monkeypatch.setattr(machine_module, "cuda_device_count", lambda: self.gpus)
        monkeypatch.setattr(machine_module, "has_metal", lambda: False)
        monkeypatch.setattr(environments, "Mps", self._mps)
        monkeypatch.setattr(environments, "find_per_device", self._find)

    def _mps(self, gpu: str, _say: Callable[[str], None], *, required: bool) -> FakeMps:
        self.events.append(f"mps on {gpu}" + (", required" if required else ""))
        return FakeMps(self.events, PIPE if self.has_metal else {})

    def _find(
        self,
        _study: object,
        _device: str,
        gpu: str,
        trials: int,
        environment: Callable[[int], Mapping[str, str]],
        _say: Callable[[str], None],
        *,
        mps: bool,
    ) -> int:
        self.events.append(f"probe of {trials} on {gpu}")
        self.probed = {"mps": mps, "environment": environment(8)}
        return self.finds

    def open(self, workers: WorkersConfig, device: str = "auto", trials: int = 20) -> list[Mapping[str, str]]:
        study: Any = SimpleNamespace(plan=any_plan(), folder=self._folder)
        with open_environments(workers, device, trials, study, lambda _: None) as opened:
            self.events.append("work")
        return opened


class FakeMps:
    def __init__(self, events: list[str], environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.is_on = bool(environment)
        self._events = events

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.append("mps ends")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def local(
    count: int | None = None,
    per_device: int | Literal["auto"] = 1,
    processes: int = 1,
    mps: Switch = "auto",
) -> WorkersConfig:
    return WorkersConfig("local", count, per_device, processes, max_restarts=10, silence=None, mps=mps)


WITH_MPS, PROBED = ["mps on 0", "work", "mps ends"], ["mps on 0", "probe of 20 on 0", "work", "mps ends"]


@pytest.mark.parametrize(
    ("workers", "gpus", "trials", "events", "count"),
    [
        # A given number: MPS where they share a GPU.
        (local(), 1, 20, ["work"], 1),
        (local(), 2, 20, ["work"], 2),
        (local(per_device=4), 1, 20, WITH_MPS, 4),
        (local(3, per_device=2), 2, 20, WITH_MPS, 3),
        (local(per_device=4), 1, 1, ["work"], 1),
        (local(per_device=4, mps=False), 1, 20, ["work"], 4),
        (local(mps=True), 1, 20, ["mps on 0, required", "work", "mps ends"], 1),
        (local(per_device=4), 0, 20, ["work"], 4),
        # As many as a probe finds.
        (local(per_device="auto"), 1, 20, PROBED, 4),
        (local(per_device="auto"), 1, 3, ["mps on 0", "probe of 3 on 0", "work", "mps ends"], 3),
        (local(per_device="auto"), 2, 21, ["mps on 0", "probe of 11 on 0", "work", "mps ends"], 8),
        (local(per_device="auto", mps=False), 1, 20, ["probe of 20 on 0", "work"], 4),
        (local(per_device="auto", mps=True), 1, 20, ["mps on 0, required", *PROBED[1:]], 4),
        # Where there is nothing to find out: no GPU, a trial for each, a number of workers, groups of processes.
        (local(per_device="auto"), 0, 20, ["work"], 4),
        (local(per_device="auto"), 2, 2, ["work"], 2),
        (local(6, per_device="auto"), 1, 20, WITH_MPS, 6),
        (local(per_device="auto", processes=2), 4, 20, ["work"], 2),
        # Nothing to do.
        (local(per_device="auto"), 1, 0, ["work"], 0),
        (WorkersConfig("inline", 1, 1, 1, 0, None, mps=False), 1, 20, ["work"], 0),
    ],
)
def test_mps_comes_first_then_the_probe_then_the_workers(
    machine: Machine, workers: WorkersConfig, gpus: int, trials: int, events: list[str], count: int
) -> None:
    machine.gpus = gpus
    opened = machine.open(workers, trials=trials)
    assert machine.events == events
    assert len(opened) == count
    has_metal = any("mps" in event for event in events)
    assert [PIPE.items() <= share.items() for share in opened] == [has_metal] * count


def test_mps_ends_before_the_work_if_one_trial_per_gpu_is_best(machine: Machine) -> None:
    machine.finds = 1
    assert machine.open(local(per_device="auto")) == [
        {"OMP_NUM_THREADS": "8", "MKL_NUM_THREADS": "8", "CUDA_VISIBLE_DEVICES": "0"}
    ]
    assert machine.events == ["mps on 0", "probe of 20 on 0", "mps ends", "work"]


@pytest.mark.parametrize("has_metal", [True, False])
def test_a_probe_measures_in_the_workers_environment(machine: Machine, has_metal: bool) -> None:
    machine.has_metal, machine.gpus = has_metal, 2
    opened = machine.open(local(per_device="auto"), device="cuda:1")
    share = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": "1"}
    added = PIPE if has_metal else {}
    assert machine.probed == {"mps": has_metal, "environment": {**share, **added}}
    two = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    assert opened == [{**share, **two, **added}] * 4
    assert machine.events[0] == "mps on 1"
    assert machine.events.count("mps on 1") == 1


@pytest.mark.slow
def test_a_sweep_probes_once_and_reuses_the_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A GPU that only this process sees: trials and the probe's processes train on the CPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(sys, "argv", ["embedsweep"])
    monkeypatch.setattr(machine_module, "cuda_device_count", lambda: 1)
    monkeypatch.setattr(machine_module, "MPS_FOLDERS", ())
    monkeypatch.setattr(probe, "read_gpu", lambda _: Gpu("a card", 0, 2**36))
    words = ["train", "-m", "study.name=s", "workers=local", "workers.per_device=auto"]
    trials = ["trainer.seed=1,2,3,4", "trainer.max_steps=4", "evaluation.before=false", "data.limit=64"]
    found: list[str] = []
    for command in ([*words, *trials, "study.n_trials=2"], [*words, "study.n_trials=4"]):
        assert main(command) == 0
        lines = [re.sub(r"^\d{4}-\S+ \S+ ", "", line) for line in capsys.readouterr().out.splitlines()]
        reason = "nvidia-cuda-mps-control is not found"
        assert f"workers share a GPU by time-slicing, as MPS is not available: {reason}" in lines
        assert lines[0].startswith("study s: ")
        assert sum(" COMPLETE " in line for line in lines) == 2
        found += [line for line in lines if line.startswith("probe: ")]
    assert re.fullmatch(
        r"probe: 1 worker \S+ steps/s, 2: \S+ \(0\.0 GiB per trial\): (2 share a|one trial per) GPU", found[0]
    )
    assert found[1] == f"{found[0]}, as measured before"
    assert (tmp_path / "sweeps" / "s" / "probe.json").is_file()
