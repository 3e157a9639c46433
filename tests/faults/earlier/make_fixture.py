"""Make the fixtures of ``test_earlier_commits.py``: a study that a commit started and that was killed in a trial.

    git worktree add --detach ../earlier COMMIT
    PYTHONPATH=../earlier/src:../earlier python tests/faults/earlier/make_fixture.py COMMIT

(with ``finals`` at the end: killed in a trial of its finals)

writes ``COMMIT-journal.tar.xz`` and ``COMMIT-postgresql.tar.xz`` beside this file. Each holds a working directory: an
encoder of some thousand weights, the study's folder, its MLflow store as SQL, Optuna's tables as SQL where the storage
is PostgreSQL, and ``expected.json``: what the same commit's code leads to when nothing interrupts it. What differs from
one machine to the next is replaced by the words in ``PLACEHOLDERS``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from optuna.storages._cached_storage import _CachedStorage as CachedStorage
from optuna.trial import FrozenTrial
from tests import postgres
from tests.faults import studies

WORDS = (
    "loss=cosent,mnrl",
    "optimizer.lr=tag(log,interval(1e-4,1e-2))",
    "study.n_trials=3",
    "model=pretrained",
    "model.path=encoder",
    "data=demo",
    "data.limit=64",
    "trainer.device=cpu",
    "trainer.max_steps=12",
    "trainer.eval_every=3",
)
N_TRIALS = 3
KILLED_TRIAL, KILLED_STEP = 1, 8
"""The second trial, and the step at which it is killed; of finals too."""
FINALS = ("study.finals.top=1", "study.finals.seeds=2")
PLACEHOLDERS = ("@FOLDER@", "@SYSTEM@", "@HOST@", "@URL@")
"""The working directory, the system and the host of a lease, and Optuna's storage."""
TEXTS = {".json", ".log", ".sql", ".yaml", ".csv"}
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def main() -> None:
    """Make both archives of one commit."""
    if sys.argv[1] == "train":
        _train_and_be_killed(sys.argv[2:])
        return
    commit, in_finals = sys.argv[1], sys.argv[2:] == ["finals"]
    binaries = postgres.binaries()
    assert binaries is not None, postgres.MISSING
    _make(commit, "journal", None, in_finals)
    with postgres.running_server(binaries) as server:
        _make(commit, "postgresql", server.new_database(), in_finals)


def _make(commit: str, storage: str, url: str | None, in_finals: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="study-") as root:
        folder, undisturbed = Path(root, "killed"), Path(root, "undisturbed")
        folder.mkdir()
        _make_encoder(folder / "encoder")
        shutil.copytree(folder / "encoder", undisturbed / "encoder")
        words = (*WORDS, *(FINALS if in_finals else ()))
        _run(folder, ["train", *words, *studies.storage_words(url)], -signal.SIGKILL)
        trials = trials_of(folder, url)[-1]
        assert [trial.state.name for trial in trials] == ["COMPLETE", "RUNNING"], trials
        lease = trials[KILLED_TRIAL].user_attrs["embedsweep.lease"]
        _run(undisturbed, ["embedsweep", *words], 0)
        expected = [
            {"params": trial.params, "value": trial.value, "intermediate_values": trial.intermediate_values}
            for trials in trials_of(undisturbed, None)
            for trial in trials
        ]
        (folder / "expected.json").write_text(json.dumps(expected, indent=1), encoding="utf-8")
        _dump(folder, url)
        _replace(
            folder, dict(zip((str(folder), lease["system"], socket.gethostname(), url), PLACEHOLDERS, strict=True))
        )
        with tarfile.open(Path(__file__).with_name(f"{commit}-{storage}.tar.xz"), "w:xz", preset=9) as archive:
            for path in sorted(folder.rglob("*")):
                archive.add(path, path.relative_to(folder), recursive=False, filter=_anonymous)


def trials_of(folder: Path, url: str | None) -> list[list[FrozenTrial]]:
    """Return the trials of the study in a working directory, and of its finals if it has any."""
    from embedsweep.study.reading import read_study

    study = read_study(studies.Study(folder, url).name, storage=url, sweeps=folder / "sweeps")
    trials = [each.trials for each in (study, study.finals) if each is not None]
    if isinstance(study._storage, CachedStorage):  # of PostgreSQL
        study._storage.remove_session()
        study._storage._backend.engine.dispose()
    return trials


def _make_encoder(path: Path) -> None:
    """Build ``model=tiny`` in a smaller size; its own would make archives of megabytes."""
    from embedsweep.models import tiny

    os.environ["XDG_CACHE_HOME"] = str(path.parent / "cache")
    tiny.VOCABULARY = 120
    tiny.SIZES.update(SIZES)
    shutil.copytree(tiny.tiny_model_path(), path)
    shutil.rmtree(path.parent / "cache")


def _run(folder: Path, words: list[str], code: int) -> None:
    program = [__file__, "train"] if words[0] == "train" else ["-m", "embedsweep", "train", "-m"]
    ended = subprocess.run([sys.executable, *program, *words[1:]], cwd=folder, check=False)
    assert ended.returncode == code, ended.returncode


def _train_and_be_killed(words: list[str]) -> None:
    """Run ``train -m`` and kill this process at one step of one trial."""
    from transformers.trainer_callback import CallbackHandler

    from embedsweep.cli import main as command

    original = CallbackHandler.on_step_end
    trials = 0
    killed = KILLED_TRIAL + (N_TRIALS if FINALS[0] in words else 0)

    def on_step_end(handler, args, state, control):  # type: ignore[no-untyped-def]
        nonlocal trials
        result = original(handler, args, state, control)
        trials += state.global_step == 1
        if (trials - 1, state.global_step) == (killed, KILLED_STEP):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    CallbackHandler.on_step_end = on_step_end
    command(["train", "-m", *words])


def _dump(folder: Path, url: str | None) -> None:
    store = folder / "mlruns" / "mlflow.db"
    connection = sqlite3.connect(store)
    store.with_suffix(".sql").write_text("\n".join(connection.iterdump()), encoding="utf-8")
    connection.close()
    store.unlink()
    for lock in folder.rglob("*.lock"):
        lock.unlink()
    if url is not None:
        dump = subprocess.run(["pg_dump", "--inserts", "--no-owner", url], check=True, capture_output=True, text=True)
        # Settings and psql's own commands differ between versions of the server.
        kept = [
            line
            for line in dump.stdout.splitlines()
            if not line.startswith(("SET ", "\\", "--", "SELECT pg_catalog.set_config"))
        ]
        (folder / "postgresql.sql").write_text("\n".join(kept), encoding="utf-8")


def _replace(folder: Path, words: dict[str | None, str]) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in TEXTS and "checkpoints" not in path.parts and "encoder" not in path.parts:
            text = path.read_text(encoding="utf-8")
            for word, placeholder in words.items():
                quotes = '"' if placeholder == "@HOST@" else ""
                if word is not None:
                    text = text.replace(f"{quotes}{word}{quotes}", f"{quotes}{placeholder}{quotes}")
            path.write_text(text, encoding="utf-8")


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main()
