"""Search every byte that a sweep and its errors wrote for a canary secret from environment and URLs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import studies

CANARY = "kanarienvogel4711"
SHORT = ("loss=mnrl,cosent", "data.limit=100", "trainer.max_steps=2", "trainer.eval_every=1", "study.name=quiet")


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``train.py`` with a token in its environment."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_TOKEN": f"hf_{CANARY}"}
    return subprocess.run(
        [sys.executable, str(studies.ROOT / "train.py"), *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def holding(folder: Path, word: str) -> list[Path]:
    """Return the files that contain the word, databases and binary files included."""
    return [path for path in folder.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]


@pytest.mark.slow
def test_no_file_of_a_sweep_holds_a_password_or_token(tmp_path: Path, postgres_url: str) -> None:
    scheme, _, rest = postgres_url.partition("://")
    user, _, host = rest.partition("@")
    url = f"{scheme}://{user.partition(':')[0]}:{CANARY}@{host}"

    done = command(tmp_path, "-m", *SHORT, f"study.storage={url}")

    assert done.returncode == 0, done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert (tmp_path / "mlruns" / "mlflow.db").is_file()
    assert holding(tmp_path, CANARY) == []
    assert holding(tmp_path, "study.storage") == [], "the search finds what does not exist"
    assert holding(tmp_path, "quiet") != []

    by_name = command(tmp_path, "-m", "study.name=quiet")
    assert by_name.returncode == 2
    assert "give study.storage again" in by_name.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("-m", "loss=mnrl,cosent", f"tracking.uri=http://me:{CANARY}@127.0.0.1:9", "loss.scal=1"), 2),
        (("--cfg", "job", f"tracking.uri=http://me:{CANARY}@127.0.0.1:9"), 0),
        (("-m", "loss=mnrl,cosent", f"study.storage=postgresql://me:{CANARY}@127.0.0.1:9/none"), 1),
    ],
    ids=["configuration error", "composed configuration", "storage that does not answer"],
)
def test_output_contains_no_password(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    done = command(tmp_path, *words)

    assert done.returncode == code, done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert "***" in done.stdout + done.stderr or code == 2
    assert holding(tmp_path, CANARY) == []


UNKNOWN_FORM = {
    "DB_PASS": "amsel4711",
    "GITHUB_PAT": "drossel4711",
    "OPENAI_KEY": "finkstar4711",
    "EVENTS_CONNECTION_STRING": "meise4711",
    "SENTRY_DSN": "spatz4711",
    "DATABASE_URL": "postgresql://me:sperling4711@host/db",
}
"""Variables whose values have no form by which a secret could be known."""

CONFIGURED = "zeisig4711"

TALKATIVE = """
import logging, os, sys
import embedsweep.secrets as secrets

if sys.argv[1] == "unmasked":
    secrets.redact = lambda text: text
    secrets.redact_tree = lambda tree: tree
    secrets.is_secret_key = lambda key: False
    secrets.RedactingFilter.filter = lambda self, record: True
from transformers.trainer_callback import CallbackHandler
from embedsweep.cli import main

def talk(handler, args, state, control):
    words = " and ".join(os.environ[name] for name in sys.argv[2].split(","))
    logging.getLogger("a.library").warning("connecting with %s", words)
    if state.global_step == 2:
        raise RuntimeError(f"no connection with {words}")
    return control

CallbackHandler.on_step_end = talk
sys.exit(main(["train", "-m", *sys.argv[3:]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["masked", "unmasked"])
def test_secrets_of_unknown_form_are_in_no_file_and_would_be_without_redaction(how: str, tmp_path: Path) -> None:
    option = tmp_path / "conf" / "tracking" / "mine.yaml"
    option.parent.mkdir(parents=True)
    uri = f"http://me:{CONFIGURED}@127.0.0.1:9"
    option.write_text(f"name: mine\nspool: true\nuri: {uri}\n", encoding="utf-8")
    words = ("data.limit=100", "trainer.max_steps=3", "trainer.eval_every=1", "tracking=mine", "study.max_retries=0")
    done = subprocess.run(
        [sys.executable, "-c", TALKATIVE, how, ",".join(UNKNOWN_FORM), "loss=mnrl,cosent", *words],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", **UNKNOWN_FORM},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    shutil.rmtree(tmp_path / "conf")
    secrets = [*UNKNOWN_FORM.values(), "sperling4711", CONFIGURED]
    found = [secret for secret in secrets if holding(tmp_path, secret)]
    printed = [secret for secret in secrets if secret in done.stdout + done.stderr]
    if how == "masked":
        assert (found, printed) == ([], [])
    else:
        assert found == secrets, "the run above writes no secrets, so that it proves nothing"
