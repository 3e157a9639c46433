from __future__ import annotations

import logging
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import transformers

from embedsweep.training.folder import train_log, write_config
from tests.tracking.stores import CONFIG


def test_logs_warnings_and_output_go_to_the_file_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trial" / "train.log"
    with train_log(path):
        print("printed")
        print("to stderr", file=sys.stderr)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("warned", stacklevel=1)
        logging.getLogger("transformers.trainer").info("from a library")
        logging.getLogger("sentence_transformers").info("from another")
        transformers.utils.logging.get_logger("transformers.x").warning("by the library's own logger")
        logging.getLogger("httpx").info("HTTP Request: GET")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    log = path.read_text(encoding="utf-8")
    for words in (
        "INFO output: printed",
        "WARNING output: to stderr",
        "UserWarning: warned",
        "INFO transformers.trainer: from a library",
        "INFO sentence_transformers: from another",
        "WARNING transformers.x: by the library's own logger",
    ):
        assert log.count(words) == 1, words
    assert "HTTP Request" not in log


def test_a_second_attempt_appends(tmp_path: Path) -> None:
    for attempt in ("first", "second"):
        with train_log(tmp_path / "train.log"):
            print(attempt)
    assert [line.split()[-1] for line in (tmp_path / "train.log").read_text().splitlines()] == ["first", "second"]


def test_secrets_do_not_reach_the_log(tmp_path: Path) -> None:
    with train_log(tmp_path / "train.log"):
        logging.getLogger("sqlalchemy").warning("cannot open %s", "postgresql://me:s3cret-word@host/db")
        print("postgresql://me:s3cret-word@host/db")
    log = (tmp_path / "train.log").read_text(encoding="utf-8")
    assert log.count("@host/db") == 2
    assert "s3cret-word" not in log


def test_logging_and_output_are_restored_after_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (root.level, root.handlers[:], sys.stdout, warnings.showwarning)
    with pytest.raises(KeyError), train_log(tmp_path / "train.log"):
        raise KeyError
    assert (root.level, root.handlers, sys.stdout, warnings.showwarning) == before
    print("seen again")
    logging.getLogger("x").warning("not in the file")
    assert capsys.readouterr().out == "seen again\n"
    assert "not in the file" not in (tmp_path / "train.log").read_text(encoding="utf-8")


def test_a_configuration_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path, kept = tmp_path / "config.yaml", tmp_path / "as it was recorded"
    write_config(path, CONFIG)
    os.link(path, kept)
    before = kept.read_text(encoding="utf-8")
    write_config(path, replace(CONFIG, objective="dev/pearson_cosine"))
    assert kept.read_text(encoding="utf-8") == before != path.read_text(encoding="utf-8")
