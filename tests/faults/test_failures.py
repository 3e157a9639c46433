"""Trials that diverge or run out of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import studies
from tests.faults.studies import Study

SHORT = (
    *studies.PAIRS,
    "data.limit=64",
    "model=tiny",
    "trainer.device=cpu",
    "trainer.max_steps=8",
    "trainer.eval_every=0.5",
    "evaluation.before=false",
)


@pytest.mark.slow
def test_a_diverging_trial_fails_with_its_reason_and_the_others_complete(tmp_path: Path) -> None:
    words = (*SHORT, "loss=cosent", "loss.scale=1e39,20", "study.max_retries=2")
    ended = studies.run(tmp_path, words)
    assert ended.code == 3, ended.output
    assert "Traceback" not in ended.output
    study = Study(tmp_path)
    assert study.states == ["FAIL", "COMPLETE"]
    failed, run = study.trials[0], study.run_of(0)
    reason = failed.user_attrs["embedsweep.failure"]
    assert "the training loss became" in reason
    assert "retrying" not in ended.output  # it would diverge again
    assert run.data.tags["embedsweep.failure"] == reason
    assert (run.info.status, failed.value) == ("FAILED", None)
    assert "test/spearman_cosine" not in run.data.metrics

    again = studies.run(tmp_path, words)
    assert again.code == 3, again.output
    assert " RUNNING " not in again.output
    assert Study(tmp_path).trials == study.trials


@pytest.mark.slow
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_result(tmp_path: Path) -> None:
    words = (*SHORT, "loss=cosine", "optimizer.lr=1e-3,1e-4", "dataloader.batch_size=16")
    ended = studies.run(tmp_path, words, ("memory", "step:5"))
    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    study = Study(tmp_path)
    assert study.states == ["COMPLETE", "COMPLETE"]
    tags = [study.run_of(number).data.tags["embedsweep.micro_batch_size"] for number in range(2)]
    assert tags == ["8", "16"]
    assert study.run_of(0).data.params["dataloader.batch_size"] == "16"

    expected = studies.run(tmp_path / "undisturbed", words)
    assert expected.code == 0, expected.output
    values = [trial.value for trial in Study(tmp_path / "undisturbed").trials]
    assert [trial.value for trial in study.trials] == pytest.approx(values, abs=1e-4)
