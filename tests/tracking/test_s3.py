"""A study's artifacts lie in S3: put there by the tracking server, or by whoever runs the study."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from embedsweep.config.study import TrackingConfig
from embedsweep.tracking.runs import Tracker
from tests import buckets
from tests.faults import studies
from tests.tracking.stores import child, free_port, wait_for

pytestmark = pytest.mark.slow

KEY_ID, KEY = "AKIACANARY0000000001", "canary/secret/key/of/the/bucket/0001"
TINY = ("model=tiny", *studies.PAIRS, "trainer.max_steps=4")
WORDS = ("loss=cosent", "study.name=kept", "optimizer.lr=1e-3,2e-3", *TINY)
PROXIED = ("--artifacts-destination", "s3://{bucket}")
DIRECT = ("--default-artifact-root", "s3://{bucket}", "--no-serve-artifacts")


@contextmanager
def _server(folder: Path, options: Sequence[str], bucket: str, template: Path) -> Iterator[str]:
    """Run a tracking server whose environment has this process's keys and the S3 server's address."""
    shutil.copy(template, folder / "server.db")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += [option.format(bucket=bucket) for option in options]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with child(command, environment, folder / "server.log"):
        wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"


def _forget_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*buckets.KEYS, "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


def _set_keys(s3: buckets.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set other keys than those of other tests, and the address in MLflow's own variable."""
    endpoint = s3.environment["AWS_ENDPOINT_URL"]
    _forget_keys(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", endpoint)


def _in_bucket(s3: buckets.Server, bucket: str) -> dict[str, bytes]:
    """Return the objects of a bucket, by what follows the run's id in their keys."""
    client = boto3.client(
        "s3", endpoint_url=s3.environment["AWS_ENDPOINT_URL"], aws_access_key_id="a", aws_secret_access_key="b"
    )
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in s3.keys(bucket)}


def _runs(url: str) -> list[Run]:
    client = MlflowClient(url)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(ids))


def _check_artifacts(folder: Path, url: str, stored: dict[str, bytes]) -> None:
    """Check that S3 has each trial's files, and that they are read back through the tracking store as they were."""
    runs = [run for run in _runs(url) if run.data.tags["embedsweep.kind"] == "trial"]
    assert sorted(run.data.tags["embedsweep.trial"] for run in runs) == ["0", "1"]
    best = max(runs, key=lambda run: run.data.metrics["best/spearman_cosine"]).info.run_id
    tracker = Tracker(TrackingConfig("server", url, spool=False))
    for run in runs:
        run_id, number = run.info.run_id, int(run.data.tags["embedsweep.trial"])
        trial = folder / f"sweeps/kept/trials/{number:04d}"
        names = ["config.yaml", "train.log", "emissions.csv", "scores", *(["model"] if run_id == best else [])]
        assert set(names) <= tracker.artifacts(run_id)
        back = folder / f"back-{number}"
        back.mkdir()
        for name in names:
            tracker.download(run_id, name, back)
        for file in (path for name in names for path in (trial / name, *(trial / name).rglob("*")) if path.is_file()):
            inner = file.relative_to(trial).as_posix()
            if inner != "train.log":  # which goes on after it was recorded
                assert (back / inner).read_bytes() == file.read_bytes(), inner
            (kept,) = (content for key, content in stored.items() if key.endswith(f"{run_id}/artifacts/{inner}"))
            assert kept == (back / inner).read_bytes()
    assert tracker.close()


def _check_no_key(folder: Path, ended: studies.Ended, stored: dict[str, bytes]) -> None:
    """Check that no key is in any file of the study, the tracking store, or what was printed."""
    contents = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name, content in {**contents, **stored, "output": ended.output.encode()}.items():
        assert KEY.encode() not in content, name
        assert KEY_ID.encode() not in content, name


def test_the_server_keeps_artifacts_in_s3_for_a_study_that_has_no_keys(
    s3: buckets.Server, tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_keys(s3, monkeypatch)
    s3.new_bucket("proxied")
    folder = tmp_path / "work"
    with _server(tmp_path, PROXIED, "proxied", mlflow_template) as url:
        _forget_keys(monkeypatch)
        ended = studies.run(folder, (*WORDS, f"tracking.uri={url}"))
        assert ended.code == 0, ended.output
        stored = _in_bucket(s3, "proxied")
        _check_artifacts(folder, url, stored)
    _check_no_key(tmp_path, ended, stored)


def test_a_study_with_keys_keeps_its_artifacts_in_s3_and_without_them_until_it_has_them(
    s3: buckets.Server, tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _forget_keys(monkeypatch)
    s3.new_bucket("direct")
    folder = tmp_path / "work"
    with _server(tmp_path, DIRECT, "direct", mlflow_template) as url:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", s3.environment["AWS_ENDPOINT_URL"])
        ended = studies.run(folder, (*WORDS, f"tracking.uri={url}"))
        assert ended.code == 0, ended.output
        assert "AWS_ACCESS_KEY_ID" in ended.output
        assert "embedsweep sync writes them" in ended.output
        assert s3.keys("direct") == []
        _set_keys(s3, monkeypatch)
        synced = studies.finish(studies.start_program(folder, ["-m", "embedsweep", "sync"]))
        assert synced.code == 0, synced.output
        stored = _in_bucket(s3, "direct")
        _check_artifacts(folder, url, stored)
    _check_no_key(tmp_path, studies.Ended(0, ended.output + synced.output), stored)
