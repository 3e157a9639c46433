"""The arguments of ``embedsweep repair``; what it repairs is tested in tests/study and tests/faults."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from embedsweep.commands.repair import run
from embedsweep.errors import ConfigError
from embedsweep.study.opening import open_study
from embedsweep.validation.sweep import pass_sweep
from tests.tracking.stores import free_port

USAGE = "embedsweep repair STUDY [key=value ...] [options]"


@pytest.mark.parametrize(
    ("words", "problems"),
    [
        ([], [f"STUDY: is missing: {USAGE}"]),
        (["nigth"], ["STUDY: no study nigth (did you mean night?); there are: night"]),
        (["night", "tracking.urii=x"], ["tracking.urii: no such key (did you mean tracking.uri?)"]),
        (["nigth", "tracking.urii=x"], ["STUDY: no study nigth", "tracking.urii: no such key"]),
    ],
)
def test_all_that_is_wrong_with_the_arguments_is_said_once(
    words: list[str], problems: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweeps/night").mkdir(parents=True)
    Path("sweeps/night/study.yaml").touch()
    with pytest.raises(ConfigError) as caught:
        run(words, Console(file=io.StringIO()))
    found = [str(problem) for problem in caught.value.problems]
    assert len(found) == len(problems), found
    assert [line[: len(start)] for line, start in zip(found, problems, strict=True)] == problems


@pytest.mark.parametrize("write", [True, False])
def test_runs_in_a_store_that_does_not_answer_are_not_said_to_agree(
    write: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_study(pass_sweep(["loss=mnrl,cosent", "study.name=s", f"tracking.uri=http://127.0.0.1:{free_port()}"]))
    output = io.StringIO()
    assert run(["s", "tracking.spool=true", *(["--write"] if write else [])], Console(file=output, width=200)) == 1
    assert "MLflow's runs were not compared -> repeat this when the store answers" in output.getvalue()
    assert "agree" not in output.getvalue()
