"""Read and write artifacts where the store says; a tracking server may not name any folder of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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


_S3 = (
    "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and MLFLOW_S3_ENDPOINT_URL here; without them, the server can keep "
    "artifacts there itself (mlflow server --artifacts-destination s3://...)"
)


@contextmanager
def object_store_errors() -> Iterator[None]:
    """Turn what the library of S3 raises in the block into a ConnectionError, an outage to `mlflow_errors`.

    All of it may pass without another request: keys are set, a bucket is created, boto3 is installed.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in ("boto3", "botocore"):
            raise ConnectionError("artifacts in S3 need boto3: pip install 'embedsweep[s3]'") from None
        if type(error).__module__.partition(".")[0] not in ("boto3", "botocore"):
            raise
        raise ConnectionError(f"{str(error).rstrip('.')}. {_S3}") from None


def artifacts_of(store: Store, client: MlflowClient, run_id: str) -> ArtifactRepository:
    """Return MLflow's access to the artifacts of a run.

    Raises:
        TrackingError: as `check_location`; MLflow's own errors pass.
    """
    return artifacts_at(store, client.get_run(run_id).info.artifact_uri)


def artifacts_at(store: Store, location: str) -> ArtifactRepository:
    """Return MLflow's access to the artifacts of the run whose place this is.

    Raises:
        TrackingError: as `check_location`; MLflow's own errors pass.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    check_location(store, location)
    return get_artifact_repository(location, tracking_uri=store.uri)


def _folder(location: str) -> Path:
    return Path(unquote(urlsplit(location).path)).resolve()
