"""The command of the manifests for Kubernetes, with real servers: an evicted pod comes again and completes it."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from mlflow import MlflowClient

from tests import postgres
from tests.faults import studies
from tests.faults.studies import Study
from tests.test_deploy import WORDS, pods
from tests.tracking.stores import child, free_port, wait_for

pytestmark = pytest.mark.slow

SMALL = (
    "optimizer.lr=1e-2,1e-6",
    "data.limit=200",
    "trainer.device=cpu",
    "trainer.max_steps=30",
    "trainer.eval_every=0.1",
    "evaluation.before=false",
    "study.keep_models=all",
)
"""In place of what the manifests' command searches: two trials, the first the best. MLflow gets their models, too."""


class Cluster:
    """PostgreSQL, which asks for the password, and MLflow's server, as the manifests have them.

    Args:
        server: PostgreSQL's, which gets the databases and the user.
        port: of MLflow's server.
    """

    def __init__(self, server: postgres.Server, port: int) -> None:
        self.port = port
        self.password = secrets.token_urlsafe(16)
        server.add_user("embedsweep", self.password, ("studies", "mlflow"))
        self._postgresql = f"@127.0.0.1:{server.port}/"

    @property
    def storage(self) -> str:
        """The studies' URL, as the manifests' command has it."""
        return self.here("postgresql://embedsweep@postgresql/studies")

    def here(self, word: str) -> str:
        """Return a word of a manifest with this machine's addresses."""
        word = word.replace("@postgresql/", self._postgresql).replace("//mlflow:", "//localhost:")
        return word.replace("0.0.0.0", "127.0.0.1").replace("5000", str(self.port))

    def words(self) -> list[str]:
        """Return what follows ``train -m`` in the pods, of a small study."""
        kept = (word for word in WORDS[2:] if not word.startswith(("loss=", "search=", "study.n_trials=")))
        return [*map(self.here, kept), *SMALL]


class PodStudy(Study):
    """The study of several pods, each of which has a working directory of its own.

    Args:
        folders: the working directories.
        cluster: where its records are.
    """

    def __init__(self, folders: list[Path], cluster: Cluster) -> None:
        self._folders = folders
        self.folder = folders[-1] / "sweeps" / "night"
        self.name = "night"
        self.client = MlflowClient(f"http://localhost:{cluster.port}")
        self.trials = studies.read_trials(self.folder, cluster.storage)
        self.runs = self._read_runs()

    def trial_folder(self, number: int) -> Path:
        """Return the folder of a trial in the pod that finished it."""
        places = [folder / "sweeps" / "night" / "trials" / f"{number:04d}" for folder in self._folders]
        return next(place for place in places if (place / "result.json").is_file())


@pytest.fixture
def cluster(postgres_server: postgres.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    cluster = Cluster(postgres_server, free_port())
    monkeypatch.setenv("PGPASSWORD", cluster.password)
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    (container,) = (pod["containers"][0] for pod in pods() if pod["containers"][0]["name"] == "mlflow")
    arguments = [cluster.here(word).replace("=/artifacts", f"={tmp_path}/artifacts") for word in container["args"]]
    command = [sys.executable, "-m", *container["command"], *arguments, "--workers=1"]
    with child(command, dict(os.environ), tmp_path / "server.log"):
        wait_for(f"http://localhost:{cluster.port}/health")
        yield cluster


def answer(port: int, host: str) -> int:
    """Return the status with which MLflow answers a request to a name of it."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get?experiment_id=0")
    request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code


def test_an_evicted_pod_comes_again_in_an_empty_folder_and_completes_the_study(
    cluster: Cluster, tmp_path: Path
) -> None:
    hosts = (f"mlflow:{cluster.port}", f"localhost:{cluster.port}", "elsewhere")
    assert [answer(cluster.port, host) for host in hosts] == [200, 200, 403]
    first, second = tmp_path / "first", tmp_path / "second"
    pod = studies.start(first, cluster.words())
    studies.wait_for(pod, "trial 1 20%")
    pod.send_signal(signal.SIGTERM)
    evicted = studies.finish(pod)
    assert evicted.code == 143, evicted.output
    ended = studies.run(second, cluster.words())
    assert ended.code == 0, ended.output
    assert "resumed, from its start: its folder is on another machine" in ended.output
    study = PodStudy([first, second], cluster)
    studies.check_whole(study)
    # The best model stayed with the first pod, and is in MLflow.
    assert study.run_of(0).data.metrics["best/spearman_cosine"] > study.run_of(1).data.metrics["best/spearman_cosine"]
    assert "test was not scored: the model of trial 0, the best, is not on this machine" in ended.output
    repaired = studies.finish(studies.start_program(second, ["-m", "embedsweep", "repair", "night", "--write"]))
    assert repaired.code == 0, repaired.output
    again = studies.run(second, cluster.words())
    assert again.code == 0, again.output
    study = PodStudy([second], cluster)
    studies.check_whole(study)
    assert "study/test/spearman_cosine" in study.parent.data.metrics
    for each in (evicted, ended, repaired, again):
        assert "Traceback" not in each.output
    everything = "".join(path.read_text("utf-8", errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert cluster.password not in everything
