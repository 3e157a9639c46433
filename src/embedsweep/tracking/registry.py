"""Register a model in MLflow's model registry, with an alias by which programs load it."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from embedsweep.config.study import TrackingConfig
from embedsweep.tracking.artifacts import check_location
from embedsweep.tracking.lookup import Lookup
from embedsweep.tracking.store import Notify, Store, locate, log_line, mlflow_errors, open_store, waiting_for_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from sentence_transformers import SentenceTransformer

_T = TypeVar("_T")

DIGEST = "embedsweep.model_digest"
"""Tag of a version and of its logged model: the digest of the model's files."""

_PACKAGES = ("sentence-transformers", "transformers", "torch")
_EXISTS = "RESOURCE_ALREADY_EXISTS"


@dataclass(frozen=True)
class Registration:
    """What is registered.

    Attributes:
        name: the registered model's.
        alias: what the version is called beside its number.
        digest: of the model's files; a model that is registered under this name keeps its version.
        description: what the model is, in words.
        experiment: MLflow's experiment that it belongs to.
        run_id: the run that trained it; None if it is not known.
    """

    name: str
    alias: str
    digest: str
    description: str
    experiment: str
    run_id: str | None


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model.

    Attributes:
        number: its number.
        is_new: whether it was created now.
        store: the store, without its password.
    """

    number: str
    is_new: bool
    store: str


def register_model(
    config: TrackingConfig,
    registration: Registration,
    model: SentenceTransformer,
    folder: Path,
    notify: Notify = log_line,
) -> RegisteredVersion:
    """Register a model and give its version the alias; a version with the same files is not created again.

    Args:
        config: the store.
        registration: what is registered.
        model: the model, loaded.
        folder: its files as they are published, safetensors weights and the card among them.
        notify: receives a line if the database is locked.

    Raises:
        TrackingError: the store cannot be opened, or refuses the model, its name or its alias.
    """
    store = locate(config.uri)
    registry = _Registry(store, open_store(store, notify), registration, notify)
    number = registry.find()
    is_new = number is None
    if number is None:
        with tempfile.TemporaryDirectory(prefix="embedsweep-register-") as temporary:
            files = Path(temporary) / "model"
            _write_files(model, folder, files)
            number = registry.create(files)
    registry.set_alias(number)
    return RegisteredVersion(number, is_new, str(store))


class _Registry:
    """The registry of an open store, for one model."""

    def __init__(self, store: Store, client: MlflowClient, registration: Registration, notify: Notify) -> None:
        self._store = store
        self._client = client
        self._of = registration
        self._notify = notify

    def find(self) -> str | None:
        """Return the number of the version with these files; None without one."""
        condition = f"name = '{self._of.name}' AND tags.`{DIGEST}` = '{self._of.digest}'"
        found = self._call(lambda: self._client.search_model_versions(condition))
        return max((str(each.version) for each in found), key=int, default=None)

    def create(self, files: Path) -> str:
        """Write the files into the store, create a version of them, and return its number."""
        client, of = self._client, self._of
        lookup = Lookup(self._store, client)
        experiment = lookup.experiment(of.experiment)
        run_id = lookup.find(of.run_id) if of.run_id is not None else None
        tags = {DIGEST: of.digest}
        logged = self._call(lambda: client.create_logged_model(experiment, of.name, run_id, tags))
        model_id = logged.model_id
        location = logged.artifact_location
        check_location(self._store, location)
        self._call(lambda: client.log_model_artifacts(model_id, str(files)))
        self._call(lambda: client.finalize_logged_model(model_id, "READY"))
        self._call(self._ensure_name)
        # A server checks that the files are this model's; a store of this process would look for it in MLflow's default
        # store.
        of_server = model_id if self._store.is_server else None
        version = self._call(
            lambda: client.create_model_version(
                of.name, location, run_id, tags, description=of.description, model_id=of_server
            )
        )
        return str(version.version)

    def set_alias(self, number: str) -> None:
        """Give a version the alias; another version that has it loses it."""
        self._call(lambda: self._client.set_registered_model_alias(self._of.name, self._of.alias, number))

    def _ensure_name(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(self._of.name)
        except MlflowException as error:
            if error.error_code != _EXISTS:
                raise

    def _call(self, call: Callable[[], _T]) -> _T:
        """Make a call whose errors say what cannot be done, and repeat it while the database is locked."""

        def once() -> _T:
            with mlflow_errors(f"the model cannot be registered as {self._of.name} in MLflow's store {self._store}"):
                return call()

        return waiting_for_lock(once, self._notify)


def _write_files(model: SentenceTransformer, folder: Path, target: Path) -> None:
    """Write what MLflow's ``sentence_transformers`` flavor reads: its description, and the published files."""
    import numpy as np
    import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of type hints and imports of its own
        transformers.utils.logging.disable_progress_bar()
        import mlflow.sentence_transformers as flavor
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, Schema, TensorSpec

        output = TensorSpec(np.dtype("float32"), (-1, model.get_embedding_dimension()))
        flavor.save_model(
            model,
            str(target),
            signature=ModelSignature(inputs=Schema([ColSpec("string")]), outputs=Schema([output])),
            # Without a list it would start a process that loads the model to see what is imported.
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in _PACKAGES],
        )
    data = target / flavor.SENTENCE_TRANSFORMERS_DATA_PATH
    shutil.rmtree(data)  # saved in float32, and with the card as it is on this machine
    shutil.copytree(folder, data)
    description = Model.load(str(target))
    description.model_size_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    description.save(str(target / "MLmodel"))
