"""MLflow's model registry, in each kind of store."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from sentence_transformers import SentenceTransformer

from embedsweep.config.study import TrackingConfig
from embedsweep.errors import TrackingError
from embedsweep.models.tiny import tiny_model_path
from embedsweep.tracking.registry import Registration, register_model
from embedsweep.tracking.runs import Tracker
from tests.tracking.stores import begin

# MLflow 3.17 uses what SQLAlchemy 2.1 and sentence-transformers 6.2 deprecate.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated", "ignore:Importing from 'sentence_transformers"
)


@pytest.fixture(scope="module")
def tiny() -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


@pytest.fixture
def files(tiny: SentenceTransformer, tmp_path: Path) -> Path:
    """The files of a model as they are published."""
    folder = tmp_path / "published"
    shutil.copytree(tiny_model_path(), folder)
    (folder / "README.md").write_text("# The card\n", encoding="utf-8")
    return folder


def test_a_model_is_registered_once_with_its_alias_and_loads(
    config: TrackingConfig, tiny: SentenceTransformer, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(config)
    trial = begin(tracker, "registered")
    run_id = trial.run_id
    trial.finish("COMPLETE")
    assert tracker.close()
    registration = Registration("best", "champion", "0123", "the best of study night, trial 1", "registered", run_id)
    first = register_model(config, registration, tiny, files)
    assert (first.number, first.is_new) == ("1", True)
    again = register_model(config, registration, tiny, files)
    assert (again.number, again.is_new) == ("1", False)
    second = register_model(config, replace(registration, digest="4567", alias="next"), tiny, files)
    assert (second.number, second.is_new) == ("2", True)

    client = MlflowClient(config.uri)
    version = client.get_model_version_by_alias("best", "champion")
    assert (str(version.version), version.description) == ("1", "the best of study night, trial 1")
    (run,) = client.search_runs([client.get_experiment_by_name("registered").experiment_id])
    assert version.run_id == run.info.run_id
    assert str(client.get_model_version_by_alias("best", "next").version) == "2"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", config.uri)  # set_tracking_uri would set it for all later tests
    texts = ["one", "a second text"]
    expected = tiny.encode(texts)
    address = "models:/best@champion"
    assert np.array_equal(mlflow.sentence_transformers.load_model(address).encode(texts), expected)
    as_function = mlflow.pyfunc.load_model(address)
    assert np.allclose(as_function.predict(texts), expected)
    (output,) = as_function.metadata.signature.outputs.inputs
    assert (output.type, output.shape) == (np.dtype("float32"), (-1, expected.shape[1]))
    local = Path(mlflow.artifacts.download_artifacts(address))
    assert (local / "model.sentence_transformer" / "README.md").read_text(encoding="utf-8") == "# The card\n"
    suffixes = {path.suffix for path in local.rglob("*") if path.is_file()}
    assert ".safetensors" in suffixes
    assert not suffixes & {".bin", ".pkl", ".pt"}


def test_a_model_whose_run_is_not_known_is_registered_without_one(
    mlflow_store: TrackingConfig, tiny: SentenceTransformer, files: Path
) -> None:
    registration = Registration("best", "champion", "0123", "the folder mine", "single", None)
    assert register_model(mlflow_store, registration, tiny, files).is_new
    assert not MlflowClient(mlflow_store.uri).get_model_version("best", "1").run_id


def test_what_mlflow_refuses_is_said(mlflow_store: TrackingConfig, tiny: SentenceTransformer, files: Path) -> None:
    registration = Registration("best", "latest", "0123", "the folder mine", "single", None)
    with pytest.raises(TrackingError, match=r"cannot be registered as best in MLflow's store sqlite.*latest"):
        register_model(mlflow_store, registration, tiny, files)
