from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from embedsweep.config.result import Decision, TrialResult
from embedsweep.config.study import EmissionsConfig, TrackingConfig
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import TrialError
from embedsweep.losses.nesting import build_loss
from embedsweep.tracking.runs import Tracker
from embedsweep.training import memory, train
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.training.graphed import ModelGraphs
from embedsweep.training.group import TrainingGroup, open_group
from embedsweep.training.memory import NOTE, Attempts, smaller_micro_batch
from embedsweep.training.trial import TrialSetup, run_trial
from embedsweep.validation.single import pass_single


def config_of(*words: str) -> TrialConfig:
    small = ("trainer.device=cpu", "data.limit=72", "trainer.max_steps=6", "trainer.eval_every=3")
    return pass_single([*small, *words]).config


@pytest.mark.parametrize(
    ("words", "size", "expected"),
    [
        (["loss=cosine"], 32, 16),
        (["loss=cosine"], 3, 1),
        (["loss=mnrl"], 32, 16),
        (["loss=matryoshka", "loss@loss.inner=mnrl"], 8, 4),
        (["loss=cosine"], 1, "nothing smaller is left"),
        (["loss=cosent"], 32, r"loss=cosent compares the examples .*; set dataloader.batch_size below 32$"),
        (["loss=cosent", "dataloader.micro_batch_size=8"], 8, r"set dataloader.batch_size below 8$"),
        (["loss=adaptive_layer", "loss@loss.inner=mnrl"], 32, "loss=adaptive_layer cannot wrap a cached form"),
    ],
)
def test_a_smaller_micro_batch_if_it_does_not_change_the_result_else_a_reason(
    words: list[str], size: int, expected: int | str
) -> None:
    config = config_of(*words)
    if isinstance(expected, int):
        assert smaller_micro_batch(config, size, "why") == expected
        return
    with pytest.raises(TrialError, match=rf"^out of memory with micro-batches of {size} \(why\).*{expected}"):
        smaller_micro_batch(config, size, "why")


@pytest.mark.parametrize(
    ("words", "size", "expected"),
    [
        (["loss=cosine"], 32, 16),
        (["loss=cosine"], 12, 4),
        (["loss=mnrl", "dataloader.drop_last=true", "data.limit=160"], 32, 16),
        (["loss=cosine"], 4, "nothing smaller is left"),
        (["loss=mnrl"], 32, r"the cached form of loss=mnrl takes equal shares only \(dataloader.drop_last=true\)"),
    ],
)
def test_a_smaller_micro_batch_is_shared_evenly_by_processes(words: list[str], size: int, expected: int | str) -> None:
    config = config_of(*words)
    if isinstance(expected, int):
        assert smaller_micro_batch(config, size, "why", 4) == expected
        return
    with pytest.raises(TrialError, match=expected):
        smaller_micro_batch(config, size, "why", 4)


def test_a_group_starts_with_a_micro_batch_that_it_can_share(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.begin(3, None)  # a single process needed that
    attempts.finish()
    assert attempts.first_size(config_of("loss=cosine"), None, 2) == (2, None)
    assert attempts.first_size(config_of("loss=mnrl"), None, 2) == (32, None)


# --- after a kill by the kernel


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Replace the kernel's count; a test changes it."""
    count: list[int | None] = [4]
    monkeypatch.setattr(memory, "oom_kills", lambda: count[0])
    return count


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({}, 8),  # killed, and the count rose
        ({"kills": 4}, 16),  # killed for another reason
        ({"kills": None}, 16),
        ({"checkpoint": 3}, 16),  # it got further, so memory was enough
        ({"finished": True}, 16),  # it ended by itself
        ({"host": "elsewhere"}, 16),  # the count is another machine's
    ],
    ids=lambda after: "+".join(after) if isinstance(after, dict) else "",
)
def test_an_attempt_after_a_kill_for_lack_of_memory_starts_with_half(
    after: dict[str, Any], expected: int, kills: list[int | None], tmp_path: Path
) -> None:
    config = config_of("loss=cosine")
    attempts = Attempts(tmp_path)
    assert attempts.first_size(config, None) == (32, None)
    attempts.begin(16, None)
    if after.get("finished"):
        attempts.finish()
    if host := after.get("host"):
        note = json.loads((tmp_path / NOTE).read_text())
        assert note["host"] == socket.gethostname()
        (tmp_path / NOTE).write_text(json.dumps({**note, "host": host}))
    kills[0] = after.get("kills", 5)
    size, why = Attempts(tmp_path).first_size(config, after.get("checkpoint"))
    assert size == expected
    assert (why == "out of memory with micro-batches of 16 (the kernel killed the process)") is (expected == 8)


def test_the_second_kill_at_one_place_fails_the_trial_if_half_would_change_the_result(
    kills: list[int | None], tmp_path: Path
) -> None:
    config = config_of("loss=cosent")
    for checkpoint, kill in ((None, 5), (3, 6)):  # it got further in between
        Attempts(tmp_path).begin(32, checkpoint)
        kills[0] = kill
        again = Attempts(tmp_path)
        reason = "out of memory with micro-batches of 32 (the kernel killed the process)"
        assert again.first_size(config, checkpoint) == (32, reason)
        again.begin(32, checkpoint)
    kills[0] = 7
    with pytest.raises(TrialError, match=r"the kernel killed the process\), and loss=cosent compares"):
        Attempts(tmp_path).first_size(config, 3)


def test_a_torn_note_is_ignored(tmp_path: Path) -> None:
    (tmp_path / NOTE).write_text('{"micro_batch_size": 4, "che')
    assert Attempts(tmp_path).first_size(config_of("loss=cosine"), None) == (32, None)


# --- peak GPU memory


@dataclass
class FakeGpu:
    """The memory of a GPU as torch reports it; tests reserve some."""

    reserved: int = 0
    peak: int = 0
    is_broken: bool = False

    def take(self, gib: float) -> None:
        """Reserve memory and free it."""
        self.peak = max(self.peak, self.reserved + int(gib * 2**30))

    def reset(self) -> None:
        self.peak = self.reserved

    def max_reserved(self) -> int:
        if self.is_broken:
            raise RuntimeError("CUDA error: unspecified launch failure")
        return self.peak


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    fake = FakeGpu()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", fake.reset)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", fake.max_reserved)
    return fake


def test_the_peak_is_that_of_the_trial_and_not_of_earlier_trials(gpu: FakeGpu, tmp_path: Path) -> None:
    gpu.take(9)
    gpu.reserved = 2**30  # a model that stays
    attempts = Attempts(tmp_path)
    gpu.take(2.5)
    gpu.take(1)
    assert attempts.peak_memory_gib() == 3.5


def test_the_peak_is_the_largest_of_all_attempts(gpu: FakeGpu, tmp_path: Path) -> None:
    first = Attempts(tmp_path)
    first.begin(32, None)
    gpu.take(7)
    first.begin(16, None)  # smaller after out of memory; the process is killed next
    second = Attempts(tmp_path)
    gpu.take(5)
    assert second.peak_memory_gib() == 7
    second.begin(16, None)
    gpu.take(8)
    second.finish()
    third = Attempts(tmp_path)
    third.begin(16, None)
    gpu.take(6)
    assert third.peak_memory_gib() == 8
    gpu.take(11)
    assert third.peak_memory_gib() == 11


def test_on_a_cpu_there_is_no_peak(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.begin(32, None)
    attempts.finish()
    assert attempts.peak_memory_gib() is None


def test_an_unused_gpu_has_no_peak(gpu: FakeGpu, tmp_path: Path) -> None:
    assert Attempts(tmp_path).peak_memory_gib() is None


def test_a_broken_gpu_does_not_hide_what_broke_it(gpu: FakeGpu, tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.begin(32, None)
    gpu.is_broken = True
    attempts.finish()
    assert json.loads((tmp_path / NOTE).read_text())["finished"] is True


def test_the_note_of_an_older_version_has_no_peak(gpu: FakeGpu, tmp_path: Path) -> None:
    Attempts(tmp_path).begin(16, None)
    note = json.loads((tmp_path / NOTE).read_text())
    del note["peak_memory_gib"]
    (tmp_path / NOTE).write_text(json.dumps({**note, "finished": True}))
    attempts = Attempts(tmp_path)
    assert attempts.first_size(config_of("loss=cosine"), None) == (16, None)
    gpu.take(2)
    assert attempts.peak_memory_gib() == 2


# --- in a trial


class Room(nn.Module):
    """A loss that runs out of memory for more than ``room`` examples, after a number of calls."""

    def __init__(self, loss: nn.Module, room: int, calls: int) -> None:
        super().__init__()
        self.loss, self.room, self.calls = loss, room, calls
        self.seen: list[int] = []
        self.model = getattr(loss, "model", None)

    def forward(self, features: list[dict[str, torch.Tensor]], labels: torch.Tensor) -> torch.Tensor:
        rows = min(len(features[0]["input_ids"]), getattr(self.loss, "mini_batch_size", 10**6))
        self.seen.append(rows)
        if rows > self.room and len(self.seen) > self.calls:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        value: torch.Tensor = self.loss(features, labels)
        return value


class Trials:
    """Runs trials in one store, with limited memory."""

    def __init__(self, store: TrackingConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.folder, self.patch = store, folder, monkeypatch
        self.rooms: list[Room] = []

    def run(
        self,
        name: str,
        *words: str,
        room: int = 10**6,
        calls: int = 0,
        group: TrainingGroup | None = None,
    ) -> TrialResult:
        real = build_loss
        self.rooms = []

        def build(*arguments: Any, **more: Any) -> nn.Module:
            # After the first attempt memory is limited from the first call.
            self.rooms.append(Room(real(*arguments, **more), room, calls if not self.rooms else 0))
            return self.rooms[-1]

        config = config_of(*words)
        with (
            pytest.MonkeyPatch.context() as patch,
            chdir(self.folder),
            Tracker(self.store) as tracker,
        ):
            patch.setattr(train, "build_loss", build)
            self.recorded = tracker.trial_run("single", 0, config, "abc123")
            return run_trial(
                TrialSetup(
                    config,
                    self.folder / name,
                    self.recorded,
                    lambda _step, _metrics: Decision.CONTINUE,
                    lambda _step, _total: None,
                    EmissionsConfig("codecarbon", "FRA"),
                    single=False,
                    group=group,
                )
            )

    @property
    def tags(self) -> dict[str, str]:
        return dict(self._run.data.tags)

    @property
    def params(self) -> dict[str, str]:
        return dict(self._run.data.params)

    @property
    def _run(self) -> Any:
        return MlflowClient(self.store.uri, self.store.uri).get_run(self.recorded.run_id)

    def log(self, name: str) -> str:
        return (self.folder / name / "train.log").read_text(encoding="utf-8")


@pytest.fixture
def trials(mlflow_store: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trials:
    return Trials(mlflow_store, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["loss=cosine"], ["loss=mnrl", "dataloader=no_duplicates", "data.limit=160"]], ids=["cosine", "mnrl"]
)
@pytest.mark.parametrize("calls", [0, 4], ids=["at-once", "after-a-checkpoint"])
def test_out_of_memory_halves_the_micro_batch_and_not_the_result(words: list[str], calls: int, trials: Trials) -> None:
    expected = trials.run("whole", *words)
    assert trials.tags["embedsweep.micro_batch_size"] == "32"
    params = trials.params
    result = trials.run("halved", *words, room=8, calls=calls)
    assert trials.tags["embedsweep.micro_batch_size"] == "8"
    assert trials.tags["embedsweep.loss_batch_size"] == "32"
    assert trials.params == params
    assert [max(room.seen) for room in trials.rooms] == [32, 16, 8]
    assert sum(len(room.seen) for room in trials.rooms[:2]) == calls + 2
    assert "out of memory with micro-batches of 32: continuing with 16" in trials.log("halved")
    assert result.steps == expected.steps == 6
    assert result.dev == pytest.approx(expected.dev, abs=2e-3)
    assert not (trials.folder / "halved" / NOTE).exists()


@pytest.mark.parametrize(
    ("words", "room", "reason"),
    [
        (["loss=cosent"], 16, "micro-batches of 32 .*loss=cosent compares .*set dataloader.batch_size below 32"),
        (["loss=cosine", "dataloader.batch_size=2"], 0, "micro-batches of 1 .*: nothing smaller is left"),
    ],
)
def test_if_no_micro_batch_fits_the_trial_fails_with_that_reason(
    words: list[str], room: int, reason: str, trials: Trials
) -> None:
    with pytest.raises(TrialError, match=f"^out of memory with {reason}"):
        trials.run("small", *words, room=room)
    assert "CUDA out of memory. Tried to allocate 20.00 GiB" in trials.log("small")
    assert json.loads((trials.folder / "small" / NOTE).read_text())["finished"] is True


def test_a_trial_that_the_kernel_killed_resumes_with_half(kills: list[int | None], trials: Trials) -> None:
    folder = trials.folder / "killed"
    folder.mkdir()
    Attempts(folder).begin(32, Checkpoints(folder / CHECKPOINTS).last_sealed)
    kills[0] = 5
    trials.run("killed", "loss=cosine", room=16)
    assert [max(room.seen) for room in trials.rooms] == [16]
    assert trials.tags["embedsweep.micro_batch_size"] == "16"
    assert "(the kernel killed the process) in the previous attempt: this one starts with 16" in trials.log("killed")


CHILD = """
import resource, sys
import embedsweep.training, mlflow, peft
from embedsweep.training import trial
from embedsweep.cli import main

train = trial._TrialRun._train

def limited(*arguments, **more):
    pages = int(open("/proc/self/statm").read().split()[0])
    size = pages * resource.getpagesize() + 350 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    return train(*arguments, **more)

trial._TrialRun._train = limited
sys.exit(main(["train", *sys.argv[1:]]))
"""


# glibc returns freed memory to the system at once; otherwise its free lists would fill the address space.
RETURNS_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "code"), [("mnrl", 0), ("cosent", 1)])
def test_an_address_space_too_small_for_a_batch_halves_it_or_fails(loss: str, code: int, tmp_path: Path) -> None:
    words = [f"loss={loss}", "dataloader.batch_size=2048", "trainer.max_steps=2", "data.limit=8000"]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *words, "evaluation.before=false"],
        cwd=tmp_path,
        env={**os.environ, **RETURNS_MEMORY, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    (log,) = tmp_path.glob("sweeps/single/*/train.log")
    assert done.returncode == code, done.stdout + done.stderr
    assert "out of memory with micro-batches of 2048" in log.read_text(encoding="utf-8")
    if code:
        assert "loss=cosent compares the examples it sees at once" in done.stdout


LITTLE_ROOM = """
import os
if os.environ.get("RANK") == "1":
    import torch
    from embedsweep.training import train as tasks

    real = tasks.build_loss

    def build_loss(*arguments, **more):
        loss = real(*arguments, **more)
        loss.register_forward_pre_hook(check)
        return loss

    def check(loss, inputs):
        if len(inputs[0][0]["input_ids"]) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    tasks.build_loss = build_loss
"""


@pytest.mark.slow
def test_out_of_memory_of_one_process_halves_the_micro_batch_of_all(
    trials: Trials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trials.run("alone", "loss=cosine")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(LITTLE_ROOM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    with open_group(2, "cpu") as group:
        result = trials.run("together", "loss=cosine", group=group)
    assert result.dev == pytest.approx(expected.dev, abs=1e-4)
    assert trials.tags["embedsweep.micro_batch_size"] == "16"
    assert trials.tags["embedsweep.processes"] == "2"
    assert "out of memory with micro-batches of 32: continuing with 16" in trials.log("together")


@pytest.mark.slow
def test_if_others_held_memory_the_same_micro_batch_is_tried_again_first(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedsweep.training.trial.others_hold_memory", lambda: True)
    trials.run("shared", "loss=cosine", room=16)
    assert [max(room.seen) for room in trials.rooms] == [32, 32, 16]
    assert trials.tags["embedsweep.micro_batch_size"] == "16"


@pytest.mark.slow
@pytest.mark.parametrize("is_shared", [True, False])
def test_a_loss_that_needs_its_whole_batch_fails_for_good_only_if_no_other_process_held_memory(
    is_shared: bool, trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedsweep.training.trial.others_hold_memory", lambda: is_shared)
    with pytest.raises(TrialError, match="out of memory with micro-batches of 32") as raised:
        trials.run("whole", "loss=cosent", room=16)
    assert raised.value.fails_again == (not is_shared)
    assert len(trials.rooms) == 1 + is_shared


@pytest.mark.slow
def test_memory_of_captured_steps_is_freed_and_the_trial_continues_without_them(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = iter([True, False, False])
    monkeypatch.setattr(ModelGraphs, "hold_memory", property(lambda _: next(held)))
    monkeypatch.setattr(Room, "forward", _once_too_much(Room.forward))
    trials.run("captured", "loss=cosine")
    assert [max(room.seen, default=0) for room in trials.rooms] == [0, 32]
    assert trials.tags["embedsweep.micro_batch_size"] == "32"
    assert trials.tags["embedsweep.cuda_graphs"] == "none: not enough memory for captured steps"


def _once_too_much(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    calls = itertools.count()

    def limited(self: Room, *inputs: Any) -> torch.Tensor:
        if next(calls) == 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return forward(self, *inputs)

    return limited
