"""Several processes train one trial: the result equals that of one, and no failure leaves a process waiting."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from embedsweep.config.trial import TrialConfig
from embedsweep.errors import ConfigError, GroupError, Interrupted, TrialError
from embedsweep.models.tiny import tiny_model_path
from embedsweep.signals import handled
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.training.group import TrainingGroup, open_group
from embedsweep.training.train import Outcome
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep
from tests.training.cases import RecordingListener, crashing_at, train_config

# 100 rows in batches of 32 leave one of 4; of the positives, 37, one of 5, which two processes cannot halve.
SMALL = ("trainer.device=cpu", "data.limit=100", "trainer.max_steps=7", "trainer.eval_every=3", "optimizer.lr=3e-3")
STUCK_S = 20.0

MEMBER = "embedsweep.training.member"


@pytest.fixture(scope="module")
def group() -> Iterator[TrainingGroup]:
    """Two processes, which stay warm between tests unless a test loses one."""
    group = TrainingGroup(2, "cpu", STUCK_S)
    yield group
    group.close()


def pids_of(group: TrainingGroup) -> list[int]:
    """Return the process ids of the members, by rank; empty before the first trial."""
    return [member.pid for member in group._pool.processes]


def members() -> list[psutil.Process]:
    """Return the running members of all groups of this process; other tests leave children of other kinds."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE and MEMBER in child.cmdline()]


def config_of(*words: str) -> TrialConfig:
    return pass_single([*SMALL, *words]).config


def trained(
    config: TrialConfig, folder: Path, group: TrainingGroup | None, listener: RecordingListener | None = None
) -> Outcome:
    """Train as a trial does."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(config.trainer.seed)
    return train_config(config, folder / CHECKPOINTS, listener, group=group)[0]


def objectives(listener: RecordingListener, metric: str = "dev/spearman_cosine") -> dict[int, float]:
    return {step: metrics[metric] for step, metrics in listener.evaluations.items()}


def losses(listener: RecordingListener) -> dict[int, float]:
    return {step: metrics["train/loss"] for step, metrics in listener.points.items()}


# --- the result of one process

PARITY = {
    "cosine": ["loss=cosine"],
    "mnrl": ["loss=mnrl"],
    "mnrl, steered by retrieval": [
        "loss=mnrl",
        "data=demo_retrieval",
        "evaluation=retrieval",
        "dataloader.batch_size=8",
        "dataloader.drop_last=true",
    ],
}
MORE_PARITY = {
    "mnrl without duplicates": ["loss=mnrl", "dataloader=no_duplicates"],
    "mnrl, cached": ["loss=mnrl", "dataloader.micro_batch_size=8", "dataloader.drop_last=true"],
    "mnrl, symmetric": ["loss=mnrl_symmetric"],
    "cosent": ["loss=cosent"],
    "angle": ["loss=angle"],
    "cosent, columns merged": ["loss=cosent", "trainer.merge_columns=true"],
    "online contrastive": ["loss=online_contrastive"],
    "cosine, accumulated": ["loss=cosine", "dataloader.micro_batch_size=8"],
    "cosine in bf16": ["loss=cosine", "trainer.precision=bf16"],
    "triplets of classes": ["loss=batch_hard_triplet", "data=demo_topics", "dataloader=group_by_label"],
    "matryoshka": ["loss=matryoshka", "loss.matryoshka_dims=[128,32]"],
    "matryoshka, cached": [
        "loss=matryoshka",
        "loss@loss.inner=mnrl",
        "loss.matryoshka_dims=[128,32]",
        "dataloader.micro_batch_size=16",
        "dataloader.drop_last=true",
    ],
    "adapters": ["loss=mnrl", "model.lora.rank=4"],
    "static": ["loss=mnrl", "model=static", f"model.path={tiny_model_path()}"],
    "schedule-free": ["loss=cosine", "optimizer=schedule_free", "optimizer.schedule=constant"],
}


def assert_parity(words: list[str], group: TrainingGroup, folder: Path) -> None:
    config = config_of(*words)
    alone, together = RecordingListener(), RecordingListener()
    expected = trained(config, folder / "alone", None, alone)
    result = trained(config, folder / "together", group, together)
    # Rounding may swap two of 800 pairs, the more so if the hardest example of a batch is selected.
    tolerance = 1e-2 if config.trainer.precision == "bf16" else 1e-4
    assert losses(together) == pytest.approx(losses(alone), rel=tolerance)
    kept = config.objective
    assert objectives(together, kept) == pytest.approx(objectives(alone, kept), abs=tolerance)
    assert result.dev[kept] == pytest.approx(expected.dev[kept], abs=tolerance)
    assert (result.best_step, result.steps, result.pruned) == (expected.best_step, expected.steps, False)
    assert together.steps == alone.steps
    assert max(losses(alone).values()) - min(losses(alone).values()) > 1e-4  # it trained


@pytest.mark.slow
@pytest.mark.parametrize("words", PARITY.values(), ids=PARITY)
def test_two_processes_give_the_result_of_one(words: list[str], group: TrainingGroup, tmp_path: Path) -> None:
    assert_parity(words, group, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("words", MORE_PARITY.values(), ids=MORE_PARITY)
def test_two_processes_give_the_result_of_one_for_more_losses(
    words: list[str], group: TrainingGroup, tmp_path: Path
) -> None:
    assert_parity(words, group, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("loader", ["plain", "no_duplicates"])
def test_a_group_resumes_in_the_middle_of_an_epoch(loader: str, group: TrainingGroup, tmp_path: Path) -> None:
    config = config_of("loss=mnrl", f"dataloader={loader}", "dataloader.batch_size=8", "trainer.eval_every=1")
    undisturbed, first, second = RecordingListener(), crashing_at(6), RecordingListener()
    expected = trained(config, tmp_path / "undisturbed", group, undisturbed)
    with pytest.raises(ConnectionError, match="the machine is gone"):
        trained(config, tmp_path / "resumed", group, first)
    assert pids_of(group) == []
    result = trained(config, tmp_path / "resumed", group, second)
    assert list(second.evaluations) == [6, 7]
    assert result.dev == pytest.approx(expected.dev, abs=1e-6)
    expected_objectives = {step: objectives(undisturbed)[step] for step in (6, 7)}
    assert objectives(second) == pytest.approx(expected_objectives, abs=1e-6)


# --- failures and early ends reach every process


@pytest.mark.slow
def test_pruning_and_early_stopping_end_every_process(group: TrainingGroup, tmp_path: Path) -> None:
    pruned = RecordingListener(prune_at=3)
    outcome = trained(config_of(), tmp_path / "pruned", group, pruned)
    assert (outcome.pruned, outcome.steps) == (True, 3)
    assert pruned.signs_of_life > 0
    pids = pids_of(group)
    stopped = RecordingListener()
    early = ["trainer.early_stopping.patience=1", "trainer.early_stopping.min_delta=1", "trainer.eval_every=2"]
    outcome = trained(config_of(*early), tmp_path / "stopped", group, stopped)
    assert (outcome.pruned, outcome.steps, list(stopped.evaluations)) == (False, 4, [2, 4])
    assert pids_of(group) == pids  # the same processes: none was left waiting


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_trial_but_not_the_next_trial(
    rank: int, group: TrainingGroup, tmp_path: Path
) -> None:
    listener = RecordingListener(at={3: lambda: os.kill(pids_of(group)[rank], signal.SIGKILL)})
    started = time.monotonic()
    with pytest.raises(GroupError, match=rf"process {rank} of the group of 2 was killed by SIGKILL"):
        trained(config_of(), tmp_path / "dies", group, listener)
    assert time.monotonic() - started < 60
    assert members() == []
    assert trained(config_of(), tmp_path / "next", group).steps == 7


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_trial(group: TrainingGroup, tmp_path: Path) -> None:
    listener = RecordingListener(at={3: lambda: os.kill(pids_of(group)[1], signal.SIGSTOP)})
    with pytest.raises(GroupError, match=rf"process 1 of the group of 2 did not answer the others for {STUCK_S:g} s"):
        trained(config_of(), tmp_path, group, listener)
    assert members() == []


@pytest.mark.slow
def test_an_error_of_a_member_is_raised_unchanged(group: TrainingGroup, tmp_path: Path) -> None:
    with pytest.raises(TrialError, match=r"not a number|became (nan|inf)"):
        trained(config_of("loss=cosent", "loss.scale=1e39"), tmp_path, group)
    assert pids_of(group) == []


@pytest.mark.slow
def test_a_signal_ends_every_process_at_once(group: TrainingGroup, tmp_path: Path) -> None:
    def interrupt() -> None:
        while len(pids_of(group)) < 2:
            time.sleep(0.1)
        pids.extend(pids_of(group))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    pids: list[int] = []
    thread = threading.Thread(target=interrupt)
    group.close()
    # A process that a shell starts in the background ignores SIGINT, and so may these tests.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(config_of(), tmp_path, group)
    finally:
        signal.signal(signal.SIGINT, former)
    thread.join()
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.slow
@pytest.mark.parametrize("told", ["the leader", "a member"])
def test_a_signal_stops_a_group_after_a_step_with_a_checkpoint(told: str, group: TrainingGroup, tmp_path: Path) -> None:
    config = config_of("loss=mnrl", "dataloader.batch_size=8")
    undisturbed, second = RecordingListener(), RecordingListener()
    expected = trained(config, tmp_path / "undisturbed", group, undisturbed)
    pid = os.getpid() if told == "the leader" else pids_of(group)[1]
    first = RecordingListener(at={3: lambda: os.kill(pid, signal.SIGTERM)})
    with handled(), pytest.raises(Interrupted):
        trained(config, tmp_path / "stopped", group, first)
    assert members() == []
    assert Checkpoints(tmp_path / "stopped" / CHECKPOINTS).last_whole() in (3, 4, 5)
    result = trained(config, tmp_path / "stopped", group, second)
    assert result.dev == pytest.approx(expected.dev, abs=1e-6)
    assert objectives(first) | objectives(second) == pytest.approx(objectives(undisturbed), abs=1e-6)
    assert losses(first) | losses(second) == pytest.approx(losses(undisturbed), abs=1e-6)
    assert not first.evaluations.keys() & second.evaluations.keys()


def test_one_process_needs_no_group() -> None:
    with open_group(1, "cpu") as group:
        assert group is None


# --- validation

REFUSED = {
    "a batch that cannot be shared": (
        ["dataloader.batch_size=33"],
        "workers.processes_per_trial: must divide dataloader.batch_size=33, but got 2",
    ),
    "a micro-batch that cannot be shared": (
        ["loss=cosine", "dataloader.batch_size=6", "dataloader.micro_batch_size=3"],
        "workers.processes_per_trial: must divide dataloader.micro_batch_size=3, but got 2",
    ),
    "a loss that cannot gather": (
        ["loss=megabatch_margin"],
        "workers.processes_per_trial: loss=megabatch_margin cannot be trained by several processes: ",
    ),
    "a loss with weights of its own": (
        ["loss=softmax", "data=demo_nli"],
        "workers.processes_per_trial: loss=softmax cannot be trained by several processes: ",
    ),
    "a wrapper that does not pass on": (
        ["loss=adaptive_layer"],
        "workers.processes_per_trial: loss=adaptive_layer cannot be trained by several processes: ",
    ),
    "a cached form with a last batch": (
        ["loss=mnrl", "dataloader.micro_batch_size=16"],
        "dataloader.drop_last: must be true with workers.processes_per_trial: the cached form of loss=mnrl "
        "(micro_batch_size=16) gathers equal parts only, and a last batch may be unequal",
    ),
    "several datasets": (
        ["data=demo_mixed"],
        "workers.processes_per_trial: data.also=",
    ),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_validation_refuses_what_processes_cannot_share(words: list[str], message: str) -> None:
    overrides = ["trainer.device=cpu", "workers.processes_per_trial=2", *words]
    with pytest.raises(ConfigError) as single:
        pass_single(overrides)
    assert [str(problem).startswith(message) for problem in single.value.problems] == [True]
    with pytest.raises(ConfigError) as study:
        pass_sweep([*overrides, "trainer.seed=1,2"])
    assert [str(problem).startswith(message) for problem in study.value.problems] == [True]
    pass_single(["trainer.device=cpu", *words])  # one process can


def test_a_group_needs_a_gpu_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("embedsweep.machine", "embedsweep.validation.rules.training"):
        monkeypatch.setattr(f"{module}.visible_devices", lambda: ["0"])
    with pytest.raises(ConfigError, match="takes a GPU for each process, and this machine shows 1; use 1 or"):
        pass_single(["trainer.device=cuda", "workers.processes_per_trial=2"])
    with pytest.raises(ConfigError, match="takes a GPU for each process: use cuda, not cuda:0"):
        pass_single(["trainer.device=cuda:0", "workers.processes_per_trial=2"])
