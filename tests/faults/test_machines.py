"""Two machines on one study: PostgreSQL, an MLflow server and S3 are all that they share."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import buckets, postgres
from tests.faults import studies
from tests.faults.studies import ROOT, WORDS, Ended, Study
from tests.tracking.stores import child, free_port, wait_for

pytestmark = pytest.mark.slow
MACHINE = Path(__file__).with_name("machine.py")


@dataclass(frozen=True)
class Services:
    """What both machines reach.

    Attributes:
        storage: the URL of a new database for the study.
        tracking: the URI of an MLflow server, which keeps its own records in PostgreSQL and artifacts in S3.
        bucket: the bucket of its artifacts.
        s3: where that is.
    """

    storage: str
    tracking: str
    bucket: str
    s3: buckets.Server

    def run(self, folder: Path, host: str, words: tuple[str, ...], action: str = "-", place: str = "-") -> Ended:
        """Run the command to its end, on a machine with this host name and working directory."""
        shared = (f"study.storage={self.storage}", f"tracking.uri={self.tracking}")
        program = [str(MACHINE), host, action, place, "-m", *WORDS, *shared, *words]
        return studies.finish(studies.start_program(folder, program))


@pytest.fixture(scope="module")
def tracking(
    postgres_server: postgres.Server, s3_server: buckets.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder, port, bucket = tmp_path_factory.mktemp("server"), free_port(), s3_server.new_bucket("records")
    store = ["--backend-store-uri", postgres_server.new_database().replace("postgresql:", "postgresql+psycopg:")]
    where = ["--artifacts-destination", f"{bucket}/artifacts", "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", "server", *store, *where, "--workers", "1"]
    environment = {**os.environ, **s3_server.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with child(command, environment, folder / "server.log"):
        wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def services(tracking: str, postgres_url: str, s3: buckets.Server) -> Services:
    return Services(postgres_url, tracking, "records", s3)


def check(services: Services, folder: Path, undisturbed: Study) -> Study:
    study = Study(folder, services.storage, services.tracking)
    studies.check_whole(study)
    studies.check_equal(study, undisturbed)
    return study


def test_a_trial_of_a_machine_that_died_goes_on_elsewhere_from_its_checkpoint_in_s3(
    services: Services, tmp_path: Path, undisturbed: Study
) -> None:
    place = f"{services.s3.new_bucket('checkpoints')}/sweeps"
    words = ("study.name=both", f"study.checkpoints={place}")
    killed = services.run(tmp_path / "a", "machine-a", words, "kill", "sent:8")
    assert killed.code == -9, killed.output
    keys = services.s3.keys("checkpoints")
    assert any(key.endswith("0000/newest.json") for key in keys)
    newest = max(int(step) for step in re.findall(r"checkpoint-(\d+)-\w+/complete.json", " ".join(keys)))
    own = next((tmp_path / "a").glob("sweeps/both/trials/0000/train.log")).read_text(encoding="utf-8")
    ended = services.run(tmp_path / "b", "machine-b", words)
    assert ended.code == 0, ended.output
    assert f"resumed, from its checkpoint of step {newest} in S3" in ended.output
    study = check(services, tmp_path / "b", undisturbed)
    log = (study.trial_folder(0) / "train.log").read_text(encoding="utf-8")
    assert log.count("step 2 of") == own.count("step 2 of") > 0, "only the first machine has made this step"
    left = [key.partition("/sweeps/")[2] or key for key in services.s3.keys("checkpoints")]
    kinds = sorted(re.sub(r"^sweeps/both-\w+/", "", key) for key in left)
    assert kinds == ["models/trials/0000.tar.gz", "results/trials/0000.tar.gz", "results/trials/0001.tar.gz"]
    assert [key for key in services.s3.keys("records") if "/model/" in key], "the best model is in S3"


def test_the_machine_that_ends_last_gives_the_whole_answer_though_another_one_has_the_best_model(
    services: Services, tmp_path: Path, undisturbed: Study
) -> None:
    words = ("study.name=whole", f"study.checkpoints={services.s3.new_bucket('whole')}")
    first = services.run(tmp_path / "a", "machine-a", words, "term", "told")
    assert first.code == 143, first.output
    last = services.run(tmp_path / "b", "machine-b", words)
    assert last.code == 0, last.output
    assert "Traceback" not in last.output
    study = check(services, tmp_path / "b", undisturbed)
    assert study.trials[0].values > study.trials[1].values, "the best one is the other machine's"
    assert "study/test/spearman_cosine" in study.parent.data.metrics
    with (
        studies.reading(tmp_path / "b", services.storage) as record,
        studies.reading(undisturbed.folder.parents[1], None) as one,
    ):
        assert record.answer == one.answer
        assert record.test_scores is not None
        assert one.test_scores is not None
        assert record.test_scores.scores == one.test_scores.scores


def test_a_trial_that_was_killed_before_it_told_is_reported_elsewhere_and_not_trained_again(
    services: Services, tmp_path: Path, undisturbed: Study
) -> None:
    words = ("study.name=untold", f"study.checkpoints={services.s3.new_bucket('untold')}")
    killed = services.run(tmp_path / "a", "machine-a", words, "kill", "tell")
    assert killed.code == -9, killed.output
    own = (tmp_path / "a/sweeps/untold/trials/0000/train.log").read_text(encoding="utf-8")
    ended = services.run(tmp_path / "b", "machine-b", words)
    assert ended.code == 0, ended.output
    assert "resumed, which has its result in S3" in ended.output
    study = check(services, tmp_path / "b", undisturbed)
    assert (study.trial_folder(0) / "train.log").read_text(encoding="utf-8").startswith(own)
    assert "study/test/spearman_cosine" in study.parent.data.metrics


def test_without_a_place_for_checkpoints_it_goes_on_from_its_start_and_says_so(
    services: Services, tmp_path: Path, undisturbed: Study
) -> None:
    words = ("study.name=apart",)
    killed = services.run(tmp_path / "a", "machine-a", words, "kill", "step:9")
    assert killed.code == -9, killed.output
    ended = services.run(tmp_path / "b", "machine-b", words)
    assert ended.code == 0, ended.output
    assert "resumed, from its start: its folder is on another machine" in ended.output
    check(services, tmp_path / "b", undisturbed)


def test_a_bucket_that_goes_away_fails_no_trial(tmp_path: Path, s3: buckets.Server, undisturbed: Study) -> None:
    place = s3.new_bucket("fleeting")
    program = [str(MACHINE), "machine-a", "-", "-", "-m", *WORDS, f"study.checkpoints={place}"]
    command = studies.start_program(tmp_path, program)
    studies.wait_for(command, "trial 0 11%")
    s3.stop()
    try:
        ended = studies.finish(command)
    finally:
        s3.start()
    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    assert "its checkpoints stay on this machine for now: s3://fleeting" in ended.output
    study = Study(tmp_path)
    studies.check_whole(study)
    studies.check_equal(study, undisturbed)


def test_a_bucket_that_is_missing_is_named_before_anything_is_created(tmp_path: Path, s3: buckets.Server) -> None:
    ended = studies.finish(
        studies.start_program(tmp_path, [str(ROOT / "train.py"), "-m", *WORDS, "study.checkpoints=s3://absent/x"])
    )
    assert ended.code == 2, ended.output
    assert "study.checkpoints: s3://absent/x: there is no bucket absent: create it, or name another" in ended.output
    assert list(tmp_path.glob("sweeps/*")) == []
