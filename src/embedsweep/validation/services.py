"""Validate the sections that all trials of a command share: study, workers, tracking and emissions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from embedsweep.config.checkpoints import KEY as CHECKPOINTS_KEY
from embedsweep.config.checkpoints import url_problem
from embedsweep.config.metrics import COSTS, dev_metrics, is_dev_metric
from embedsweep.config.study import EmissionsConfig, StudyConfig, TrackingConfig
from embedsweep.config.trial import EvaluationConfig
from embedsweep.config.values import listed, nearest, shown
from embedsweep.config.workers import RayWorkersConfig, SlurmWorkersConfig, WorkersConfig
from embedsweep.emissions.rows import country_problem
from embedsweep.errors import Problem, gather_problems, raise_problems
from embedsweep.files import LONGEST_NAME, RESERVED, SINGLE_RUNS, SWEEPS, access_problem, access_problems
from embedsweep.machine import MPS_FOLDERS, cuda_devices_of, find_mps_control, gpu_count
from embedsweep.tracking.store import database_problem, locate
from embedsweep.validation.cells import Cell
from embedsweep.validation.ray import check_ray, check_ray_device
from embedsweep.validation.reference import evaluation_metrics
from embedsweep.validation.sections import read_sections
from embedsweep.validation.slurm import check_slurm


def check_workers(workers: WorkersConfig) -> Iterator[Problem]:
    """Report settings that ``workers=inline``, which is this process, cannot have."""
    if workers.name != "inline":
        return
    several = "auto measures how many" if workers.per_device == "auto" else f"{workers.per_device} are to"
    settings = {
        "count": (workers.count in (None, 1), f" alone, but got {workers.count}"),
        "per_device": (workers.per_device == 1, f" alone, but {several} share a GPU"),
        "mps": (workers.mps is False, f", which shares no GPU, but got {shown(workers.mps)}"),
        "max_restarts": (workers.max_restarts == 0, f", which cannot be restarted, but got {workers.max_restarts}"),
        "silence": (workers.silence is None, f", which is not supervised, but got {workers.silence or 0:g}"),
    }
    for key, (is_off, message) in settings.items():
        if not is_off:
            yield Problem(f"workers.{key}", f"inline is this process{message}: add workers=local")


def check_shares(workers: WorkersConfig, device: str) -> Iterator[Problem]:
    """Report what does not fit on this machine of local workers whose trials run on ``device`` (``trainer.device``)."""
    if workers.name == "ray":
        yield from check_ray_device(device)
    if workers.name in ("inline", "ray", "slurm"):  # the devices of this process alone, or of other machines
        return
    yield from _check_mps(workers, device)
    gpus, share = gpu_count(device), workers.per_device
    if share == "auto":
        return  # without a GPU it is ignored; with one, workers.count decides if it is set
    if not gpus:
        if share > 1:
            message = f"there is no GPU that {share} could share (trainer.device={device}): set workers.count=N instead"
            yield Problem("workers.per_device", message)
        return
    processes = (workers.count or 1) * workers.processes_per_trial
    if processes > gpus * share:
        on = f"{gpus} GPU{'s' if gpus > 1 else ''} with {share} process{'es' if share > 1 else ''} each"
        enough = -(-processes // gpus)
        message = f"{processes} processes do not fit on {on}: set workers.per_device={enough} if they fit in its memory"
        yield Problem("workers.count", message)


def _check_mps(workers: WorkersConfig, device: str) -> Iterator[Problem]:
    """Report what ``workers.mps=true`` lacks here; only starting the daemon shows whether it can be started."""
    if workers.mps is not True:
        return
    if not cuda_devices_of(device):
        message = f"there is no CUDA device to share (trainer.device={device}): set workers.mps to auto or false"
        yield Problem("workers.mps", message)
    elif find_mps_control() is None:
        folders = ", ".join(map(str, MPS_FOLDERS))
        message = (
            f"nvidia-cuda-mps-control, which comes with NVIDIA's driver, is neither on PATH nor in {folders}: install "
            "it, or set workers.mps to auto or false"
        )
        yield Problem("workers.mps", message)


STORAGE_DRIVERS = {"postgresql": "psycopg", "sqlite": "sqlite3"}
"""Databases that can hold a study -> the driver that SQLAlchemy takes if the URL names none."""

TRACKING_SCHEMES = ("sqlite", "http", "https", "postgresql")


@dataclass(frozen=True)
class Services:
    """The sections of a command that are no part of a trial.

    Attributes:
        study: what the study does; of a single run, its objective and rungs.
        tracking: where runs are recorded.
        emissions: whose electricity is used.
        workers: who runs trials on this machine.
    """

    study: StudyConfig
    tracking: TrackingConfig
    emissions: EmissionsConfig
    workers: WorkersConfig


def read_services(cell: Cell, *, has_own_evaluation: bool) -> Services:
    """Return the sections of a command that every cell shares.

    Args:
        cell: one of them.
        has_own_evaluation: whether trials are scored as the cell says, and not as a study or run that exists does.

    Raises:
        ConfigError: everything wrong with them.
    """
    kinds = {"study": StudyConfig, "tracking": TrackingConfig, "emissions": EmissionsConfig, "workers": WorkersConfig}
    problems: list[Problem] = []
    services = Services(**read_sections(cell.composed, kinds, problems))
    if (evaluation := evaluation_of(cell)) is not None:
        objectives = services.study.objectives or (f"dev/{evaluation.main_metric}",)
        services = replace(services, study=replace(services.study, objectives=objectives))
        problems += _check_objectives(objectives, evaluation) if has_own_evaluation else ()
    problems += _check_study(services.study)
    folders = list(_check_folders())
    known = tuple(problem.message for problem in folders)  # the default store is in one of them
    problems += (problem for problem in check_tracking(services.tracking) if not problem.message.endswith(known))
    problems += check_workers(services.workers)
    if isinstance(services.workers, RayWorkersConfig):
        problems += check_ray(services.workers, services.study)
    if isinstance(services.workers, SlurmWorkersConfig):
        wrong = {problem.where for problem in problems}  # reads as null, which is no second problem
        slurm = check_slurm(services.workers, services.study, services.tracking)
        problems += (problem for problem in slurm if problem.where not in wrong)
    country = services.emissions.country_iso_code
    if country is not None and (message := country_problem(country)) is not None:
        problems.append(Problem("emissions.country_iso_code", message))
    raise_problems([*problems, *folders])
    return services


def evaluation_of(cell: Cell) -> EvaluationConfig | None:
    """Return the evaluation that every cell shares; None if it is invalid, which is reported with the trials."""
    problems: list[Problem] = []
    evaluation: EvaluationConfig | None = None
    with gather_problems(problems):
        evaluation = read_sections(cell.composed, {"evaluation": EvaluationConfig}, problems)["evaluation"]
    return None if problems else evaluation


def _check_objectives(objectives: Sequence[str], evaluation: EvaluationConfig) -> Iterator[Problem]:
    """Check that the evaluation gives the metrics that are optimised, and that one of them chooses checkpoints."""
    own = dev_metrics(evaluation)
    known = (*own, *COSTS)
    unknown = [name for name in objectives if name not in known]
    for name in unknown:
        others = [f"evaluation={option}" for option, metrics in evaluation_metrics().items() if name in metrics]
        advice = f" (add {' or '.join(others)})" if others else nearest(name, known)
        message = f"no metric {name} of evaluation={evaluation.name}{advice}; there are: {listed(known)}"
        yield Problem("study.objective", message)
    if not unknown and not any(map(is_dev_metric, objectives)):
        message = f"must have a dev metric, which chooses a trial's best checkpoint: {listed(own)}"
        yield Problem("study.objective", message)


def _check_folders() -> Iterator[Problem]:
    """Check that the folders that every command writes to can be written, or created."""
    for folder in (SWEEPS, Path("mlruns")):
        if folder.exists() and not folder.is_dir():
            message = f"must be a folder, but {folder.absolute()} is a file; move it, or start from another folder"
            yield Problem(str(folder), message)
        elif (reason := access_problem(folder)) is not None:
            yield Problem(str(folder), reason)
        elif folder == SWEEPS and (reason := access_problem(SINGLE_RUNS)) is not None:
            yield Problem(str(SINGLE_RUNS), reason)


def check_tracking(tracking: TrackingConfig) -> Iterator[Problem]:
    """Report a URI of a kind that MLflow does not know; only opening the store shows whether it answers."""
    uri = tracking.uri
    if not uri:
        return
    scheme = re.split(r"[:+]", uri, maxsplit=1)[0]
    if scheme == "file":
        message = "MLflow no longer keeps records in plain folders; use sqlite:///mlruns/mlflow.db"
        yield Problem("tracking.uri", message)
    elif scheme not in TRACKING_SCHEMES or scheme == uri:
        message = "must be the URI of a store or server, such as sqlite:///mlruns/mlflow.db or http://host:5000"
        yield Problem("tracking.uri", f"{message}, but got {uri}")
    elif scheme == "sqlite" and not re.fullmatch(r"sqlite:///[^?]*[^/?][^?]*(\?.*)?", uri):
        yield Problem("tracking.uri", f"names no file: use sqlite:///mlruns/mlflow.db, not {uri}")
    elif scheme == "sqlite":
        store = locate(uri)
        if store.database is not None and (problem := database_problem(store.database)) is not None:
            yield Problem("tracking.uri", problem)
        elif store.artifacts is not None and store.artifacts.exists():
            yield from access_problems([store.artifacts])


def check_reach(storage: str | None, tracking: TrackingConfig) -> Iterator[Problem]:
    """Report a study that other machines may join but whose records only this machine can write."""
    host = _database_host(storage)
    if host is None or host == "localhost" or host.startswith(("127.", "/")) or host == "::1":
        return
    if (tracking.uri or "sqlite:").startswith("sqlite:"):
        message = (
            f"study.storage is on {host}, so that other machines may join, but a file on this one cannot take their "
            "records: give all of them the same server (tracking.uri=http://host:5000)"
        )
        yield Problem("tracking.uri", message)


def _database_host(url: str | None) -> str | None:
    """Where a database is; None where the URL does not say, or is none."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    if url is None:
        return None
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        return None
    host = parts.host or parts.query.get("host")
    return host if host is None or isinstance(host, str) else host[0]


def _check_study(study: StudyConfig) -> Iterator[Problem]:
    name = study.name
    if name is not None and (not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name in RESERVED):
        reserved = " or ".join(f"'{name}'" for name in RESERVED)
        yield Problem("study.name", f"must be letters, digits, '.', '_' and '-', and not {reserved}, but got {name!r}")
    elif name is not None and len(name) > LONGEST_NAME:
        yield Problem("study.name", f"must have at most {LONGEST_NAME} characters, but has {len(name)}: {name[:40]}...")
    if study.storage is not None:
        yield from _check_storage(study.storage)
    if study.checkpoints is not None and (message := url_problem(study.checkpoints)) is not None:
        yield Problem(CHECKPOINTS_KEY, message)
    if len(study.objectives) > 1 and study.pruner != "none":
        message = "several objectives cannot be pruned; set it to none, or study.objective to one metric"
        yield Problem("study.pruner", message)
    if len(study.objectives) > 1 and study.sampler == "cmaes":
        message = "cmaes optimises one objective; with several use tpe, gp, nsga2, nsga3, qmc or random"
        yield Problem("study.sampler", message)
    if len(study.objectives) > 1 and study.patience is not None:
        message = "several objectives have no one best score to wait for: leave it out, or set study.objective to one"
        yield Problem("study.patience", message)
    if study.sampler == "qmc" and study.seed >= 2**32:
        yield Problem("study.seed", f"must be below {2**32} for qmc, but got {study.seed}")
    yield from _check_rungs(study)


def _check_rungs(study: StudyConfig) -> Iterator[Problem]:
    """Check whether a pruner has rungs, and enough of them that it can ever prune."""
    pruning, count = study.pruning, len(study.pruning.rungs)
    if study.pruner == "none":
        return
    if count == 0:
        message = f"{study.pruner} decides at rungs, and there are none: set fractions of a trial, as [0.25,0.5]"
        yield Problem("study.pruning.rungs", message)
    elif study.pruner == "wilcoxon" and (count < 2 or 0.5**count >= pruning.p_threshold):
        # Of n paired values that are all worse, the test's p is 2 ** -n.
        message = (
            f"with {shown(pruning.rungs)} p is never below study.pruning.p_threshold={pruning.p_threshold:g}, so "
            f"nothing would be pruned; raise that above {0.5 ** max(2, count):g} or give more rungs"
        )
        yield Problem("study.pruning.rungs", message)
    elif study.pruner == "patience" and count < pruning.patience + 2:
        message = (
            f"with study.pruning.patience={pruning.patience} rung {pruning.patience + 2} is the first that can prune, "
            f"and there are {count}; set more, or less patience"
        )
        yield Problem("study.pruning.rungs", message)


def _check_storage(url: str) -> Iterator[Problem]:
    parts = re.match(r"([a-z0-9]+)(?:\+([a-z0-9_]+))?://", url)
    if parts is None or parts[1] not in STORAGE_DRIVERS:
        databases = ", ".join(STORAGE_DRIVERS)
        yield Problem(
            "study.storage",
            f"must be the URL of a database ({databases}), such as postgresql://host/database; null is a journal file",
        )
        return
    driver = parts[2] or STORAGE_DRIVERS[parts[1]]
    if find_spec(driver) is None:
        install = "pip install 'embedsweep[postgresql]'" if driver == "psycopg" else "install it"
        yield Problem("study.storage", f"needs the Python package {driver}: {install}")
