"""The arguments of ``embedsweep repair``; what it repairs is tested in tests/study and tests/faults."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from embedsweep.commands.repair import run
from embedsweep.errors import ConfigError

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
