"""The screen of a terminal: which trials it shows, and that it is never higher than the terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from embedsweep.config.study import Choice
from embedsweep.report.lines import JsonLines, PlainLines, QuietLines
from embedsweep.report.live import LiveScreen, make_display, shown
from tests.report.displays import Told, status

PARAMS: dict[str, Choice] = {
    "loss": "mnrl",
    "optimizer.lr": 1e-3,
    "dataloader.batch_sampler": "no_duplicates",
    "optimizer.warmup": 0.125,
}


def screen(told: Told, width: int = 80, height: int = 24, workers: int = 1) -> LiveScreen:
    display = LiveScreen(Console(force_terminal=True, file=io.StringIO(), width=width, height=height), told.trials)
    display.trials.workers = workers
    display.open("study seen: 20 trials", {})
    return display


def lines_of(display: LiveScreen) -> list[str]:
    """Return what the screen shows now, line by line."""
    width, height = display._console.size
    console = Console(record=True, force_terminal=True, width=width, height=height, file=io.StringIO())
    console.print(display.screen())
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_running_trials_are_shown_above_the_study() -> None:
    told = Told(status(2, 16, best=(1, 0.5), seconds={0: 10.0, 1: 10.0}, co2eq_kg=1e-4))
    display = screen(told, workers=2)
    for number in (4, 5):
        display.begin(str(number), PARAMS, "resumed" if number == 4 else "", number - 4)
    told.clock.now += 10
    display.progress("4", 3, 10)
    told.clock.now += 10
    display.progress("4", 5, 10)
    display.score("4", 0.25)
    assert lines_of(display) == [
        "trial  worker  done  dev score  left  values",
        "4      0       50%   0.2500     25s   resumed loss=mnrl lr=0.001 batch_sampler=…",
        "5      1                              loss=mnrl lr=0.001 batch_sampler=no_dupli…",
        # 25 s and 7 new trials of 10 s each on one worker, 9 on the other.
        "2/20: 2 complete; best 0.5000 (trial 1); 1m35s left; 0.1 g CO2eq",
    ]


def test_a_trial_that_ended_scrolls_away_with_its_whole_reason() -> None:
    output = io.StringIO()
    display = LiveScreen(Console(force_terminal=True, file=output, width=80), Told(status()).trials)
    reason = "TrialError: '[/x]' of [red] " + "and so on " * 20 + "to the end"
    with shown(display):
        display.begin("0", PARAMS, "", 0)
        display.end("0", "FAIL", None, reason)
    assert lines_of(display)[-1].startswith("0/20")
    assert " ".join(reason.split()) in " ".join(output.getvalue().split())


@pytest.mark.parametrize("running", [0, 1, 4, 20, 100])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 40), (40, 12), (60, 10)])
def test_the_screen_is_never_higher_than_the_terminal(running: int, width: int, height: int) -> None:
    told = Told(status(7, 20, n_complete=3, n_pruned=3, n_failed=1, best=(3, 0.5), co2eq_kg=1.0))
    display = screen(told, width, height, workers=max(1, running))
    for number in range(running):
        display.begin(str(number), PARAMS, "", number)
        display.progress(str(number), 1, 10)
    found = lines_of(display)
    assert len(found) < height
    assert max(map(len, found)) <= width
    rows = [line for line in found if line.split()[0].isdigit()]
    assert len(rows) == running or f"and {running - len(rows)} more run" in found
    assert len(rows) >= min(running, height - 7)


def test_what_was_printed_before_the_screen_is_shown_again_stays() -> None:
    output = io.StringIO()
    display = LiveScreen(Console(force_terminal=True, file=output, width=80), Told(status(7, 13)).trials)
    display.open("study seen: 20 trials", {})
    with shown(display):
        pass
    display.say("a line that stays")
    with shown(display):
        display.say("another")
    status_line = "7/20: 7 complete; no best yet; time left unknown"
    assert on_screen(output.getvalue()) == ["study seen: 20 trials", status_line, "a line that stays", "another"]


def on_screen(printed: str) -> list[str]:
    """Return the lines that a terminal shows after what was printed, whose cursor was moved up and lines erased."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[\??[\d;]*[A-Za-z]|\r?\n|\r|[^\x1b\r\n]+", printed):
        if part.endswith("\n"):
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith(("\x1b", "\r")):
            lines[row] += part
    return [line.rstrip() for line in lines if line.strip()]


def test_what_is_waited_for_is_said_while_workers_import_and_the_best_is_scored() -> None:
    told = Told(status(7, 13, best=(3, 0.5)))
    display = screen(told, workers=2)
    assert lines_of(display)[0] == "workers 0, 1 start: importing libraries takes some seconds"
    display.begin("7", {}, "", 1)
    assert lines_of(display)[2] == "worker 0 starts: importing libraries takes some seconds"
    display.begin("8", {}, "", 0)
    told.status = status(20, 0, best=(3, 0.5))
    display.end("7", "COMPLETE", 0.5, "")
    assert not any("worker" in line for line in lines_of(display)[1:])
    display.end("8", "COMPLETE", 0.5, "")
    assert lines_of(display)[0] == "all trials are finished: scoring the best one on test"


def test_a_terminal_gets_a_screen_and_a_pipe_lines() -> None:
    terminal, pipe = Console(force_terminal=True, file=io.StringIO()), Console(file=io.StringIO())
    trials = Told().trials
    assert [type(make_display(console, "lines", trials)) for console in (terminal, pipe)] == [LiveScreen, PlainLines]
    assert [type(make_display(console, "quiet", trials)) for console in (terminal, pipe)] == [QuietLines, QuietLines]
    assert [type(make_display(console, "json", trials)) for console in (terminal, pipe)] == [JsonLines, JsonLines]
