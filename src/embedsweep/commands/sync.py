"""``embedsweep sync``: what was recorded while MLflow's store was away, written into it.

Owns which store each spool is replayed to, and what is told of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from embedsweep.config.study import TrackingConfig
from embedsweep.console import say
from embedsweep.errors import ConfigError, TrackingError
from embedsweep.secrets import MASK, redact
from embedsweep.tracking.record_writer import replay_spool
from embedsweep.tracking.spool import Spool, all_spools
from embedsweep.tracking.store import locate
from embedsweep.validation.single import pass_sync

HELP = """\
embedsweep sync [study.name=NAME] [tracking.uri=URI]

Writes what studies and runs of this folder recorded while MLflow's store did not answer (sweeps/*/spool) into it, in
order and nothing twice. It may be broken off and said again. Exit code 1 where something is left.

  study.name=NAME    of one study only
  tracking.uri=URI   the store; without it the one that each command was given, whose password, if it has one, comes
                     from MLFLOW_TRACKING_URI
"""


def run(words: Sequence[str], console: Console) -> int:
    """Replays every spool of the working directory, or of a study.

    Returns:
        0 where nothing is left, else 1.

    Raises:
        ConfigError: what was asked cannot be read, or a store's password is not known.
    """
    if "--help" in words or "-h" in words:
        say(console, HELP.rstrip())
        return 0
    study, tracking, is_said = pass_sync(words)
    spools = all_spools(study)
    if not spools:
        say(console, "nothing waits" + (f" of study {study}" if study is not None else " in sweeps/*/spool"))
        return 0
    stores = sorted({spool.origin(run_id).store for spool in spools for run_id in spool.waiting()})
    targets = {store: _target(store, tracking, is_said=is_said) for store in stores}
    left = [_replay(spool, store, targets[store], console) for spool in spools for store in stores]
    return 1 if any(left) else 0


def _target(store: str, tracking: TrackingConfig, *, is_said: bool) -> str:
    """The URI that records for a store are written to.

    Args:
        store: the URI they were recorded for, without its password.
        tracking: what the command and its environment say.
        is_said: whether the command does.
    """
    if is_said or str(locate(tracking.uri)) == store:
        return tracking.uri
    if MASK in store:
        message = f"records wait for {store}, whose password is not kept: give it, or set MLFLOW_TRACKING_URI"
        raise ConfigError.single("tracking.uri", message)
    return store


def _replay(spool: Spool, store: str, uri: str, console: Console) -> bool:
    """Whether something is left."""
    if not spool.waiting(store):
        return False
    try:
        found = replay_spool(spool, store, uri, lambda line: say(console, line))
    except TrackingError as error:
        say(console, redact(str(error)))
        count = len(spool.waiting(store))
        say(console, f"{spool.folder}: {count} run{'s' if count > 1 else ''} left")
        return True
    for run_id, run in found.done.items():
        say(
            console,
            f"{spool.folder}: run {run.store_id}: {run.records} records written" + _called(run_id, run.store_id),
        )
    for run_id, reason in found.left.items():
        say(console, f"{spool.folder}: run {run_id} is left: {redact(reason)}")
    return bool(found.left)


def _called(run_id: str, store_id: str) -> str:
    return "" if run_id == store_id else f" (begun as {run_id})"
