from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from embedsweep.cli import main
from embedsweep.config.study import Choice
from embedsweep.console import duration, open_console, say, short_params
from embedsweep.errors import printable

SENTENCE = "cannot be told apart"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (48, "48s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (60, "1m00s"),
        (200, "3m20s"),
        (3599, "59m59s"),
        (3599.7, "1h00m"),
        (3900, "1h05m"),
        (90000, "25h00m"),
    ],
)
def test_durations_are_readable(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ""),
        ({"loss": "mnrl", "optimizer.lr": 2.1234e-5}, "loss=mnrl lr=2.12e-05"),
        ({"dataloader.batch_size": 32, "optimizer.warmup": 0.125}, "batch_size=32 warmup=0.125"),
        ({"model.pooling": None, "data.convert.both_directions": True}, "pooling=null both_directions=true"),
    ],
)
def test_swept_values_are_shown_in_one_line(params: dict[str, Choice], expected: str) -> None:
    assert short_params(params) == expected


def test_a_notebook_gets_lines_of_text_although_it_asks_for_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    output = io.StringIO()
    console = open_console(output)
    assert not console.is_terminal
    console.print("[bold]a line[/]")
    assert output.getvalue() == "a line\n"


@pytest.mark.parametrize(
    ("terminal", "fold", "expected"),
    [(True, True, ["cannot be", "told apart"]), (True, False, [SENTENCE]), (False, True, [SENTENCE])],
)
def test_a_sentence_is_folded_between_words_on_a_terminal_only(terminal: bool, fold: bool, expected: list[str]) -> None:
    output = io.StringIO()
    say(Console(file=output, width=12, force_terminal=terminal), SENTENCE, fold=fold)
    assert [line.rstrip() for line in output.getvalue().splitlines()] == expected


def test_a_closed_pipe_does_not_end_the_command(tmp_path: Path) -> None:
    program = """if True:
        import sys
        from contextlib import redirect_stdout
        from io import StringIO
        from embedsweep.console import open_console
        from embedsweep.report.lines import PlainLines
        from embedsweep.report.running import RunningTrials
        lines = PlainLines(open_console(sys.stdout), RunningTrials())
        with redirect_stdout(StringIO()):  # as while a trial runs
            for _ in range(20000):
                lines.say("a line that nobody reads")
        print("lived", file=sys.stderr)
    """
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read().decode().strip() == "lived"
    assert child.returncode == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\x00b\x9b", "a\\x00b\\x9b"),
        ("turned \u202e round", "turned \\u202e round"),
        ("half \udc80", "half \\udc80"),
        ("a\tb\nñ 😀", "a\tb\nñ 😀"),
        ("x" * 5000, "x" * 4000 + " ... (5000 characters)"),
    ],
)
def test_what_is_printed_controls_no_terminal(text: str, expected: str) -> None:
    assert printable(text) == expected
    output = io.StringIO()
    say(Console(file=output, width=10_000, tab_size=1), text)
    assert "\x1b" not in output.getvalue()


def test_an_argument_with_control_characters_is_printed_without_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "loss=\x1b[2Jx", "\x1b]0;title\x07=1"]) == 2
    assert main(["\x1b[2J"]) == 2
    printed = capsys.readouterr()
    assert "\\x1b[2Jx" in printed.err
    assert not {"\x1b", "\x07"} & set(printed.err + printed.out)
