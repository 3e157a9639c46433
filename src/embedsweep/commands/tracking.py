"""The verbs of MLflow's store.

``embedsweep sync`` writes what was recorded while the store did not answer into it; ``embedsweep ui`` serves its pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from embedsweep.commands.arguments import Option, ParsedArguments, Positional, Verb, parse, whole_number
from embedsweep.config.study import TrackingConfig, plan_of
from embedsweep.console import say
from embedsweep.errors import ConfigError, TrackingError
from embedsweep.files import SWEEPS, study_names, study_of
from embedsweep.secrets import MASK, redact
from embedsweep.tracking.browse import open_ui
from embedsweep.tracking.replay import replay_spool
from embedsweep.tracking.spool import Spool, all_spools
from embedsweep.tracking.store import locate
from embedsweep.tracking.view import shared_view
from embedsweep.validation.single import read_store

TRACKING_URI = Option("--tracking-uri", "URI", "MLflow's store: sqlite:///FILE or http://HOST:PORT")
TRACKING_OVERRIDES = "options of the group tracking, as of train: tracking.uri=URI is --tracking-uri URI"


def sync(words: Sequence[str], console: Console) -> int:
    """Replay every spool of the working directory, or of a study.

    Returns:
        0 where nothing is left, else 1.

    Raises:
        ConfigError: all that is wrong with the arguments, or a store's password is not known.
    """
    arguments = parse(SYNC, words)
    study = arguments.values.study
    if study is not None and not (SWEEPS / study).is_dir():
        arguments.add_problem("--study", f"there is no study {study} in {Path.cwd() / SWEEPS}")
    tracking = _read_store(arguments)
    spools = all_spools(study)
    if not spools:
        say(console, "nothing waits" + (f" of study {study}" if study is not None else " in sweeps/*/spool"))
        return 0
    has_store = bool(arguments.overrides) or "tracking_uri" in arguments.given
    origins = (spool.origin(run_id) for spool in spools for run_id in spool.waiting())
    stores = sorted({origin.store for origin in origins if origin is not None})
    targets = {store: _target(store, tracking, has_store=has_store) for store in stores}
    left = [_replay(spool, store, targets[store], console) for spool in spools for store in stores]
    return 1 if any(left) else 0


def _target(store: str, tracking: TrackingConfig, *, has_store: bool) -> str:
    """Return the URI of the store that records are written to.

    Args:
        store: the URI they were recorded for, without its password.
        tracking: the store of the command and its environment.
        has_store: whether the command names one.
    """
    if has_store or str(locate(tracking.uri)) == store:
        return tracking.uri
    if MASK in store:
        message = f"records wait for {store}, whose password is not kept: give it, or set MLFLOW_TRACKING_URI"
        raise ConfigError.single("--tracking-uri", message)
    database = locate(store).database
    if database is not None and not database.is_file() and not database.is_relative_to(Path.cwd()):
        message = f"records wait for {database}, which does not exist: name the file that has its place"
        raise ConfigError.single("--tracking-uri", message)
    return store


def _replay(spool: Spool, store: str, uri: str, console: Console) -> bool:
    """Return whether something is left."""
    if not spool.waiting(store):
        return False
    try:
        result = replay_spool(spool, store, uri, lambda line: say(console, line))
    except TrackingError as error:
        say(console, redact(str(error)))
        count = len(spool.waiting(store))
        say(console, f"{spool.folder}: {count} run{'s' if count > 1 else ''} left")
        return True
    for run_id, run in result.done.items():
        former_id = "" if run_id == run.store_id else f" (started as {run_id})"
        say(console, f"{spool.folder}: run {run.store_id}: {run.records} records written{former_id}")
    for run_id, reason in result.left.items():
        say(console, f"{spool.folder}: run {run_id} is left: {redact(reason)}")
    return bool(result.left)


def ui(words: Sequence[str], _console: Console) -> int:
    """Serve MLflow's pages and return the server's exit code, 0 after Ctrl-C.

    Raises:
        ConfigError: all that is wrong with the arguments.
        TrackingError: the store cannot be opened, or has no such study, or the port is taken.
    """
    arguments = parse(UI, words)
    store = _read_store(arguments)
    study = next(iter(arguments.positionals[0]), None)
    return open_ui(store, arguments.values.port, study, _view_of(study) if study is not None else None)


def _view_of(study: str) -> str | None:
    """Return the view of a study of this folder; None if another machine has its plan."""
    from embedsweep.study.study_file import read_study_file

    file = read_study_file(SWEEPS / study)
    return shared_view(plan_of(file.plan)) if file is not None and file.plan is not None else None


def _read_store(arguments: ParsedArguments) -> TrackingConfig:
    """Return the store of ``--tracking-uri`` and of the overrides of ``tracking``; raise all that is wrong so far."""
    overrides = list(arguments.overrides)
    if (uri := arguments.values.tracking_uri) is not None:
        overrides.append(f"tracking.uri={uri}")
    tracking = arguments.collect(read_store, overrides)
    arguments.check()
    assert tracking is not None, "what is missing was noted as a problem"
    return tracking


SYNC = Verb(
    name="sync",
    summary="write what was recorded while MLflow's store did not answer",
    run=sync,
    description=(
        "Write what studies and runs of this folder recorded while MLflow's store did not answer (sweeps/*/spool)\n"
        "into it, in order and nothing twice. It can be interrupted and repeated. Exit code 1: something is left.\n"
        "\nWithout --tracking-uri, each record goes to the store of its own command, whose password, if it has one,\n"
        "comes from MLFLOW_TRACKING_URI."
    ),
    options=(Option("--study", "NAME", "of one study only", study_of, choices=study_names), TRACKING_URI),
    overrides=TRACKING_OVERRIDES,
    former_keys={"study.name": "--study"},
)

UI = Verb(
    name="ui",
    summary="MLflow's pages, to compare runs",
    run=ui,
    description=(
        "Serve MLflow's pages on this machine until Ctrl-C. A tracking server serves its own: its address is printed."
        "\nWith STUDY the printed address opens the table of its trials, the best first, with what was searched."
        "\n\nWithout --tracking-uri the store is MLFLOW_TRACKING_URI, or mlruns/mlflow.db."
    ),
    positionals=(Positional("[STUDY]", "the name of a study, or its folder", study_names, study_of),),
    options=(Option("--port", "N", "a free port of 127.0.0.1", whole_number(1, 65535)), TRACKING_URI),
    overrides=TRACKING_OVERRIDES,
    former_keys={"port": "--port"},
)
