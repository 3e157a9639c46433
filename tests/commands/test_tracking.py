"""``embedsweep ui``: its port and the store whose pages it serves. The tests of ``sync`` are in tests/tracking."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from embedsweep.commands import tracking
from embedsweep.config.study import TrackingConfig
from embedsweep.errors import ConfigError


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The store and the port of each call of ``ui``, which serves nothing here; the working directory is empty."""
    calls: list[tuple[str, int]] = []

    def note(store: TrackingConfig, port: int, study: str | None, view: str | None) -> int:
        assert (study, view) == (None, None)
        calls.append((store.uri, port))
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking, "open_ui", note)
    return calls


def _run(*words: str) -> int:
    return tracking.ui(words, Console(file=io.StringIO()))


@pytest.mark.parametrize(
    "words",
    [
        ("--port", "5001", "--tracking-uri", "http://host:5000"),
        ("port=5001", "tracking.uri=http://host:5000"),  # as earlier versions had it
    ],
)
def test_port_and_store_are_options(served: list[tuple[str, int]], words: tuple[str, ...]) -> None:
    assert _run(*words) == 0
    assert served == [("http://host:5000", 5001)]


def test_the_default_port_is_that_of_the_working_directorys_conf(served: list[tuple[str, int]]) -> None:
    Path("conf").mkdir()
    Path("conf/commands.yaml").write_text("ui: {port: 5005}\n", encoding="utf-8")
    assert _run() == 0
    assert [port for _, port in served] == [5005]


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["--port", "0"], ["--port: must be a whole number from 1 to 65535, but got 0"]),
        (["port=x"], ["--port: must be a whole number from 1 to 65535, but got x"]),
        (
            ["loss=mnrl", "trackingx=3", "port=70000"],
            [
                "--port: must be a whole number from 1 to 65535, but got 70000",
                "loss=mnrl: unexpected argument; the store is --tracking-uri URI",
                "trackingx=3: unexpected argument; the store is --tracking-uri URI",
            ],
        ),
        (["tracking.uri=3"], ["tracking.uri: must be a text, but got 3"]),
    ],
)
def test_wrong_arguments_are_reported_together(
    served: list[tuple[str, int]], words: list[str], messages: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        _run(*words)
    assert [str(problem) for problem in error.value.problems] == messages
    assert served == []


def test_several_stores_are_refused(served: list[tuple[str, int]]) -> None:
    with pytest.raises(ConfigError) as error:
        _run("tracking.uri=a,b")
    assert [problem.where for problem in error.value.problems] == ["tracking.uri"]
    assert served == []
