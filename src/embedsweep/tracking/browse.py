"""Serve MLflow's web UI over the store, and download models from it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from embedsweep.config.study import TrackingConfig
from embedsweep.config.values import nearest
from embedsweep.errors import Interrupted, TrackingError
from embedsweep.files import DOWNLOADS, MODEL, SINGLE
from embedsweep.tracking.artifacts import artifacts_of
from embedsweep.tracking.mlflow_writer import MlflowWriter
from embedsweep.tracking.store import Store, locate, log_line, mlflow_errors, open_store, waiting_for_lock
from embedsweep.tracking.view import VIEW_TAG, runs_path, view_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # one process less; its features are not used here
    "PYTHONWARNINGS": "ignore",  # MLflow itself uses deprecated features
}
_START_PAGE = "/#/experiments"
"""The list of studies; MLflow itself opens on its pages for language models."""
_SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""A file of the working directory must not shadow a library of the same name; for the server's own processes, too."""
_ANSWER_S = 5.0  # how long a question to a server that is starting may take; it is repeated
_TERMINATE_S = 10.0  # how long the server may take to finish a request after SIGTERM


def open_ui(config: TrackingConfig, port: int, study: str | None = None, view: str | None = None) -> int:
    """Serve MLflow's web UI on 127.0.0.1 until Ctrl-C; print only the address if the store is a tracking server.

    Args:
        config: the store; it is created if it does not exist, unless a study is to be in it.
        port: a free port.
        study: the study whose view the printed address opens; None is the list of all.
        view: the study's view (see `shared_view`), for the study of an earlier version, whose experiment has none;
            None adds none.

    Returns:
        The server's exit code; 0 after Ctrl-C.

    Raises:
        TrackingError: the store cannot be opened, or has no such study, or the port is taken.
    """
    store = locate(config.uri)
    if study is not None and store.database is not None and not store.database.is_file():
        raise _no_study(store, study, [])
    client = open_store(store)  # create it here, before several processes of the server find an empty file
    page = f"/{_study_page(store, client, study, view)}" if study is not None else _START_PAGE
    if store.is_server:
        print(f"MLflow runs at {str(store).rstrip('/')}{page}")
        return 0
    _check_free(port)
    server = subprocess.Popen(
        _command(store, port), env=_ENVIRONMENT | os.environ | _SAFE_PATH | {"MLFLOW_BACKEND_STORE_URI": store.uri}
    )
    try:
        if _answers(server, port):
            print(f"MLflow: http://127.0.0.1:{port}{page} (Ctrl-C ends it)", flush=True)
        return server.wait()
    except (KeyboardInterrupt, Interrupted):
        return 0
    finally:
        # The terminal sends Ctrl-C to the child, too; terminate it in case the signal was sent to this process only.
        server.terminate()
        try:
            server.wait(_TERMINATE_S)
        except subprocess.TimeoutExpired:
            server.kill()


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a server that is starting answers; return False if it ends before that."""
    while server.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
        try:
            connection.request("GET", "/health")
            connection.getresponse()
        except (OSError, HTTPException):
            time.sleep(0.1)
        else:
            return True
        finally:
            connection.close()
    return False


def _no_study(store: Store, study: str, known: Sequence[str]) -> TrackingError:
    return TrackingError(
        f"MLflow's store {store} has no study {study}{nearest(study, known)}; it has: {', '.join(known) or 'none'}. "
        "Another store is named by --tracking-uri"
    )


def _study_page(store: Store, client: MlflowClient, study: str, view: str | None) -> str:
    """Return the address of a study's view below that of the pages; give its experiment the view if it has another."""
    with mlflow_errors(f"study {study} cannot be found in MLflow's store {store}"):
        experiment = client.get_experiment_by_name(study)
        if experiment is None:
            known = [each.name for each in client.search_experiments() if each.name not in ("Default", SINGLE)]
            raise _no_study(store, study, known)
        if view is not None and experiment.tags.get(VIEW_TAG) != view:
            writer = MlflowWriter(store, client)
            waiting_for_lock(lambda: writer.tag_experiment(study, {VIEW_TAG: view}), log_line)
    path = view_path if view is not None or VIEW_TAG in experiment.tags else runs_path
    return path(str(experiment.experiment_id))


def _check_free(port: int) -> None:
    """Raise if the port cannot be used; MLflow itself would end with exit code 0."""
    with socket.socket() as probe:
        # As the server does; otherwise a port that was used a moment ago counts as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise TrackingError(f"port {port} cannot be used ({error.strerror}); choose another: --port N") from None


def _command(store: Store, port: int) -> list[str]:
    command = [sys.executable, "-P", "-m", "mlflow", "ui"]
    if store.artifacts is not None:
        # Without this, experiments created in the UI would put their artifacts into ./mlartifacts.
        command += ["--no-serve-artifacts", "--default-artifact-root", store.artifacts.as_uri()]
    # uvicorn puts its app-dir, by default the working directory, before all libraries.
    options = f"--log-level=critical --app-dir={os.devnull}"
    return [*command, *f"--host 127.0.0.1 --port {port} --workers 1".split(), "--uvicorn-opts", options]


def runs_with_model(config: TrackingConfig, prefix: str) -> list[str]:
    """Return the ids with this prefix of all runs that have a model as an artifact; none if there is no store.

    Args:
        config: the store.
        prefix: hexadecimal digits, an id or its start.

    Raises:
        TrackingError: the store cannot be opened or read.
    """
    store = locate(config.uri)
    if store.database is not None and not store.database.is_file():
        return []
    client = open_store(store)
    with mlflow_errors(f"the runs of MLflow's store {store} cannot be searched"):
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        runs = client.search_runs(experiments, f"attributes.run_id LIKE '{prefix}%'") if experiments else []
        ids = [str(run.info.run_id) for run in runs]
        return [run_id for run_id in ids if MODEL in _artifacts_in(store, client, run_id)]


def _artifacts_in(store: Store, client: MlflowClient, run_id: str) -> set[str]:
    return {str(entry.path) for entry in artifacts_of(store, client, run_id).list_artifacts()}


def download_model(config: TrackingConfig, run_id: str) -> Path:
    """Return the local folder of a run's model, which is downloaded at the first call, completely or not at all.

    Raises:
        TrackingError: the download fails, or the folder cannot be written.
    """
    folder = DOWNLOADS / run_id / MODEL
    if folder.is_dir():
        return folder
    store = locate(config.uri)
    client = open_store(store)
    with mlflow_errors(f"the model of run {run_id} cannot be downloaded from MLflow's store {store}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as temporary:
            Path(artifacts_of(store, client, run_id).download_artifacts(MODEL, temporary)).rename(folder)
    return folder
