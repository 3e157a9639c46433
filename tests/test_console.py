from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from embedsweep.cli import main
from embedsweep.config.study import Choice
from embedsweep.console import KEPT_ROWS, LiveTable, PlainLines, duration, open_display, say, short_params
from embedsweep.errors import printable


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


def pass_time(of: PlainLines | LiveTable, label: str, seconds: float) -> None:
    """Move a trial's start into the past."""
    of._rows[label].started -= seconds


def plain() -> tuple[PlainLines, io.StringIO]:
    output = io.StringIO()
    return PlainLines(Console(file=output, width=40)), output


def test_without_a_terminal_each_event_prints_a_line() -> None:
    lines, output = plain()
    lines.begin("7", {"loss": "mnrl", "optimizer.lr": 1e-3}, "resumed")
    lines.progress("7", 25, 100)
    pass_time(lines, "7", 75)
    lines.score("7", 0.51239)
    pass_time(lines, "7", 55)
    lines.end("7", "COMPLETE", 0.6, "0.12 g CO2eq")
    assert output.getvalue().splitlines() == [
        "trial 7 RUNNING loss=mnrl lr=0.001 resumed",
        "trial 7 25% 1m15s 0.5124",
        "trial 7 COMPLETE 2m10s loss=mnrl lr=0.001 0.6000 0.12 g CO2eq",
    ]


def test_a_failed_trial_shows_its_reason_and_escapes_markup() -> None:
    lines, output = plain()
    lines.begin("0", {}, "")
    lines.end("0", "FAIL", None, "ValueError: [red]no[/red] such [0]")
    assert output.getvalue().splitlines() == [
        "trial 0 RUNNING",
        "trial 0 FAIL 0s ValueError: [red]no[/red] such [0]",
    ]


def live() -> LiveTable:
    return LiveTable(Console(force_terminal=True, file=io.StringIO()), "dev/spearman_cosine")


def shown(table: LiveTable) -> list[list[str]]:
    """Return the words of each line of the table."""
    console = Console(record=True, force_terminal=True, width=120, file=io.StringIO())
    console.print(table.live.get_renderable())
    return [line.split() for line in console.export_text().splitlines()]


def test_the_table_shows_the_current_state_of_each_trial() -> None:
    table = live()
    with table.live:
        table.begin("0", {"optimizer.lr": 1e-3}, "resumed")
        table.begin("1", {"optimizer.lr": 1e-2}, "")
        table.progress("0", 3, 10)
        table.score("0", 0.25)
        pass_time(table, "0", 61)
        pass_time(table, "1", 61)
        head, first, second = shown(table)
        assert head == ["trial", "state", "done", "time", "dev/spearman_cosine", "values"]
        assert first == ["0", "RUNNING", "30%", "1m01s", "0.2500", "lr=0.001", "resumed"]
        assert second == ["1", "RUNNING", "1m01s", "lr=0.01"]
        table.end("0", "COMPLETE", 0.5, "1 g")
        table.end("1", "FAIL", None, "TrialError: nan")
        pass_time(table, "0", 400)
        pass_time(table, "1", 400)
        assert shown(table)[1:] == [
            ["0", "COMPLETE", "30%", "1m01s", "0.5000", "lr=0.001", "1", "g"],
            ["1", "FAIL", "1m01s", "lr=0.01", "TrialError:", "nan"],
        ]


def test_markup_in_a_reason_is_text() -> None:
    table = live()
    with table.live:
        table.begin("0", {}, "")
        table.end("0", "FAIL", None, "KeyError: '[/x]' of [red]")
        assert shown(table)[1][-4:] == ["KeyError:", "'[/x]'", "of", "[red]"]


def test_the_oldest_finished_row_is_dropped() -> None:
    table = live()
    with table.live:
        for number in range(KEPT_ROWS + 5):
            table.begin(str(number), {}, "")
            table.end(str(number), "COMPLETE", 0.5, "")
        rows = shown(table)[1:]
    assert [row[0] for row in rows] == [str(number) for number in range(5, KEPT_ROWS + 5)]


def test_a_running_trial_keeps_its_row() -> None:
    table = live()
    with table.live:
        table.begin("slow", {}, "")
        for number in range(KEPT_ROWS + 5):
            table.begin(str(number), {}, "")
            table.end(str(number), "COMPLETE", 0.5, "")
        table.progress("slow", 1, 2)
        rows = shown(table)[1:]
    assert [row[0] for row in rows] == ["slow", *(str(number) for number in range(6, KEPT_ROWS + 5))]


def test_a_terminal_gets_the_table_and_a_pipe_plain_lines() -> None:
    with open_display(Console(file=io.StringIO()), "dev/spearman_cosine") as quiet:
        assert isinstance(quiet, PlainLines)
    with open_display(Console(force_terminal=True, file=io.StringIO()), "dev/spearman_cosine") as rich:
        assert isinstance(rich, LiveTable)


def test_a_closed_pipe_does_not_end_the_command(tmp_path: Path) -> None:
    program = """if True:
        import sys
        from contextlib import redirect_stdout
        from io import StringIO
        from embedsweep.console import PlainLines, open_console
        lines = PlainLines(open_console(sys.stdout))
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
