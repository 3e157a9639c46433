"""Read and write artifacts where the store says; a tracking server may not name any folder of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from embedsweep.errors import TrackingError
from embedsweep.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

ROOT = "MLFLOW_DEFAULT_ARTIFACT_ROOT"


REFERENCES = ("runs", "models")
"""Schemes of addresses that MLflow resolves by asking the server once more, for any address."""


def check_location(store: Store, location: str) -> None:
    """Refuse a folder of this machine that a tracking server names for artifacts: files would be read or written there.

    A folder below that in the environment variable ``MLFLOW_DEFAULT_ARTIFACT_ROOT``, such as a shared disk, is allowed.
    A reference to other artifacts, which could be such a folder, is refused.

    Raises:
        TrackingError: the folder is not allowed.
    """
    scheme = urlsplit(location).scheme
    if store.is_server and scheme in REFERENCES:
        raise TrackingError(f"the tracking server {store} names {location} for artifacts, which only refers to others")
    if not store.is_server or scheme not in ("", "file"):
        return
    allowed = os.environ.get(ROOT)
    if allowed and _folder(location).is_relative_to(_folder(allowed)):
        return
    raise TrackingError(
        f"the tracking server {store} keeps artifacts in {location}, which would be a folder of this machine. If that "
        f"is a shared disk, set {ROOT} to it or to a folder above; else start the server with --serve-artifacts"
    )


def artifacts_of(store: Store, client: MlflowClient, run_id: str) -> ArtifactRepository:
    """Return MLflow's access to the artifacts of a run.

    Raises:
        TrackingError: as `check_location`; MLflow's own errors pass.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    location = client.get_run(run_id).info.artifact_uri
    check_location(store, location)
    return get_artifact_repository(location, tracking_uri=store.uri)


def _folder(location: str) -> Path:
    return Path(unquote(urlsplit(location).path)).resolve()
