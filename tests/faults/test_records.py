"""A study's MLflow runs or trials' folders are deleted, and rebuilt from what the other records have."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.entities import Run

from embedsweep.tracking.names import FORMER_ID, SPOOL_ID
from tests.faults import studies
from tests.faults.studies import WORDS, Study

REPAIR = "from embedsweep.cli import main; import sys; sys.exit(main(['repair', *sys.argv[1:]]))"


@pytest.fixture
def copied(undisturbed: Study, tmp_path: Path) -> Study:
    """A copy of the undisturbed study, in a working directory of its own."""
    for name in ("sweeps", "mlruns"):
        shutil.copytree(undisturbed.folder.parents[1] / name, tmp_path / name)
    return Study(tmp_path)


def repair(folder: Path, name: str, *words: str) -> studies.Ended:
    program = folder / "repair.py"
    program.write_text(REPAIR, encoding="utf-8")
    return studies.finish(studies.start_program(folder, [str(program), name, *words]))


def check_recorded(study: Study, run: Run, expected: Run, reference: Study) -> None:
    """Check that a run has everything of another that a trial's records hold."""
    assert (run.info.status, run.info.run_name) == (expected.info.status, expected.info.run_name)
    assert run.data.params == expected.data.params
    assert run.data.tags["mlflow.parentRunId"] == study.parent.info.run_id
    ids = {"mlflow.parentRunId", SPOOL_ID, FORMER_ID}
    tags = [{name: value for name, value in each.data.tags.items() if name not in ids} for each in (run, expected)]
    assert tags[0] == tags[1]
    assert {"embedsweep.micro_batch_size", "embedsweep.audit", "embedsweep.cuda_graphs"} <= tags[0].keys()
    data_sets = [
        [(item.dataset.to_dictionary(), item.tags[0].value) for item in each.inputs.dataset_inputs]
        for each in (run, expected)
    ]
    assert data_sets[0] == data_sets[1]
    assert [context for _, context in data_sets[0]] == ["train", "dev", "test"]
    assert study.history(run) == reference.history(expected)
    names = [
        {entry.path for entry in each.client.list_artifacts(of.info.run_id)}
        for each, of in ((study, run), (reference, expected))
    ]
    assert names[0] == names[1]
    assert abs(run.info.start_time - expected.info.start_time) < 2000
    assert run.info.start_time < run.info.end_time < expected.info.end_time + 2000  # the best one was opened again


@pytest.mark.slow
def test_a_deleted_store_is_recorded_again(undisturbed: Study, tmp_path: Path) -> None:
    shutil.copytree(undisturbed.folder.parent, tmp_path / "sweeps")  # and no mlruns
    name = undisturbed.name
    told = studies.run(tmp_path, (f"study.name={name}",))
    assert told.code == 0, told.output
    assert "MLflow's store does not have the runs of trials 0, 1" in told.output
    assert f"embedsweep repair {name} compares what is left, and with --write rebuilds it" in told.output
    compared = repair(tmp_path, name)
    assert compared.code == 1, compared.output
    assert len(Study(tmp_path).runs) == 1  # the study's own
    written = repair(tmp_path, name, "--write")
    assert written.code == 0, written.output

    study = Study(tmp_path)
    assert len(study.runs) == 3
    for number in range(studies.N_TRIALS):
        check_recorded(study, study.run_of(number), undisturbed.run_of(number), undisturbed)
    for metric in ("study/dev/spearman_cosine", "study/test/spearman_cosine", "study/emissions/co2eq_kg"):
        assert study.parent.data.metrics[metric] == undisturbed.parent.data.metrics[metric]
    agreed = repair(tmp_path, name)
    assert (agreed.code, "agree" in agreed.output) == (0, True), agreed.output


@pytest.mark.slow
def test_deleted_runs_are_restored_and_scores_that_earlier_versions_did_not_log_are_added(
    copied: Study, tmp_path: Path
) -> None:
    for run in (copied.run_of(1), copied.parent):
        copied.client.delete_run(run.info.run_id)
    with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as database, database:
        for table in ("metrics", "latest_metrics"):  # earlier versions did not log them
            database.execute(f"DELETE FROM {table} WHERE key LIKE 'best/%'")
    written = repair(tmp_path, copied.name, "--write")
    assert written.code == 0, written.output
    assert "the run of trial 1 was deleted in MLflow -> restored" in written.output
    assert "2 runs (trials 0, 1) without best/... -> added from the trials' results" in written.output
    studies.check_whole(Study(tmp_path))


@pytest.mark.slow
def test_a_deleted_folder_is_filled_from_the_storage_and_the_run(
    copied: Study, undisturbed: Study, tmp_path: Path
) -> None:
    folders = [each.trial_folder(0) for each in (copied, undisturbed)]
    shutil.rmtree(folders[0])
    told = studies.run(tmp_path, (f"study.name={copied.name}",))
    assert "does not have the folder of trial 0" in told.output
    written = repair(tmp_path, copied.name, "--write")
    assert written.code == 0, written.output
    files = [{path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} for folder in folders]
    assert files[0] == files[1] | {Path("scores/dev.json")}  # which the run alone had
    assert copied.result(0) == undisturbed.result(0)
    assert (folders[0] / "config.yaml").read_text() == (folders[1] / "config.yaml").read_text()


@pytest.mark.slow
def test_the_deleted_run_of_an_interrupted_trial_costs_nothing(tmp_path: Path, undisturbed: Study) -> None:
    killed = studies.run(tmp_path, WORDS, ("kill", "step:7"))
    assert killed.code == -9, killed.output
    deleted = Study(tmp_path).run_of(0).info.run_id
    Study(tmp_path).client.delete_run(deleted)

    ended = studies.run(tmp_path)
    assert ended.code == 0, ended.output
    assert f"trial 0: MLflow lacks its run {deleted[:8]}; it gets a new one" in ended.output
    study = Study(tmp_path)
    study.runs = [run for run in study.runs if run.info.run_id != deleted]
    studies.check_whole(study)
    studies.check_equal(study, undisturbed)
