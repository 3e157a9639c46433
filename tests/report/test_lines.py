"""What the displays print as lines: for people, quietly, and as JSON."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from rich.console import Console

from embedsweep.report.lines import JsonLines, PlainLines, QuietLines
from embedsweep.report.status import StudyStatus, status_line
from tests.report.displays import Told, status

STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")


def read(output: io.StringIO) -> list[str]:
    """Return the lines that were printed, each of which must begin with the time."""
    lines = output.getvalue().splitlines()
    assert all(STAMP.match(line) for line in lines), lines
    return [STAMP.sub("", line) for line in lines]


def run_one(display: PlainLines | JsonLines, told: Told) -> None:
    """A trial that is resumed, evaluated and complete, on worker 3."""
    display.open("study seen: 20 trials", {"study": "seen"})
    display.begin("7", {"loss": "mnrl", "optimizer.lr": 1e-3}, "resumed", 3)
    display.progress("7", 25, 100)
    told.clock.now += 75
    display.score("7", 0.51239)
    told.clock.now += 55
    told.status = status(8, 12, n_complete=5, n_pruned=3, best=(7, 0.6), co2eq_kg=1.2e-4, seconds={7: 100.0})
    display.end("7", "COMPLETE", 0.6, "0.12 g CO2eq")


def test_in_a_file_each_event_is_a_line_with_its_time_and_an_end_says_where_the_study_stands() -> None:
    output, told = io.StringIO(), Told(status(7, 13, n_complete=4, n_pruned=3, best=(2, 0.55)))
    run_one(PlainLines(Console(file=output, width=40), told.trials), told)
    assert read(output) == [
        "study seen: 20 trials",
        "7/20: 4 complete, 3 pruned; best 0.5500 (trial 2); time left unknown",
        "trial 7 RUNNING loss=mnrl lr=0.001 resumed",
        "trial 7 25% 1m15s 0.5124",
        "trial 7 COMPLETE after 2m10s loss=mnrl lr=0.001 0.6000 0.12 g CO2eq",
        "8/20: 5 complete, 3 pruned; best 0.6000 (trial 7); 27.7/h; 20m00s left; 0.12 g CO2eq",
    ]


def test_a_run_by_itself_is_called_a_run_and_belongs_to_no_study() -> None:
    output = io.StringIO()
    lines = PlainLines(Console(file=output), Told().trials, "run")
    lines.begin("4f1c2a9b", {"loss": "mnrl"}, "", 0)
    lines.end("4f1c2a9b", "COMPLETE", 0.5, "")
    assert read(output) == ["run 4f1c2a9b RUNNING loss=mnrl", "run 4f1c2a9b COMPLETE after 0s loss=mnrl 0.5000"]


def test_a_failed_trial_shows_its_reason_and_escapes_markup() -> None:
    output = io.StringIO()
    lines = PlainLines(Console(file=output), Told().trials)
    lines.begin("0", {}, "", 0)
    lines.end("0", "FAIL", None, "ValueError: [red]no[/red] such [0]")
    assert read(output) == ["trial 0 RUNNING", "trial 0 FAIL after 0s ValueError: [red]no[/red] such [0]"]


def test_a_trial_that_will_be_resumed_does_not_change_what_is_finished() -> None:
    output = io.StringIO()
    lines = PlainLines(Console(file=output), Told(status(3, 17)).trials)
    lines.begin("3", {}, "", 0)
    lines.end("3", "WAITING", None, "interrupted")
    assert read(output)[-1] == "trial 3 WAITING after 0s interrupted"


def test_a_quiet_command_prints_messages_and_failures_only() -> None:
    output, told = io.StringIO(), Told(status())
    display = QuietLines(Console(file=output), told.trials)
    run_one(display, told)
    display.say("MLflow's store does not answer")
    display.begin("8", {}, "", 0)
    display.end("8", "FAIL", None, "TrialError: the loss is NaN")
    assert read(output) == ["MLflow's store does not answer", "trial 8 FAIL TrialError: the loss is NaN"]


def events(output: io.StringIO) -> list[dict[str, Any]]:
    """Return the events that were printed, a line each, without their times."""
    found = [json.loads(line) for line in output.getvalue().splitlines()]
    for event in found:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", event.pop("time"))
    return found


def test_every_event_is_a_json_object_in_a_line() -> None:
    output, told = io.StringIO(), Told(status())
    run_one(JsonLines(Console(file=output), told.trials), told)
    counts = {"n_trials": 20, "n_expected": 20, "stopped": False, "n_failed": 0}
    params = {"loss": "mnrl", "optimizer.lr": 0.001}
    assert events(output) == [
        {"event": "start", "study": "seen"},
        {"event": "status", **counts, "n_finished": 0, "n_left": 20, "n_complete": 0, "n_pruned": 0, "co2eq_kg": None}
        | {"best_trial": None, "best": None, "seconds_left": None, "trials_per_s": None},
        {"event": "begin", "trial": 7, "worker": 3, "params": params, "note": "resumed"},
        {"event": "progress", "trial": 7, "step": 25, "steps": 100},
        {"event": "score", "trial": 7, "step": 25, "value": 0.51239},
        {"event": "end", "trial": 7, "worker": 3, "params": params, "state": "COMPLETE", "value": 0.6}
        | {"seconds": 130.0, "note": "0.12 g CO2eq"},
        {"event": "status", **counts, "n_finished": 8, "n_left": 12, "n_complete": 5, "n_pruned": 3, "co2eq_kg": 1.2e-4}
        | {"best_trial": 7, "best": 0.6, "seconds_left": 12 * 100.0, "trials_per_s": 1 / 130},
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_an_event_may_name_any_file_whatever_the_encoding_of_stdout(encoding: str) -> None:
    raw = io.BytesIO()
    name = "日本-caf\udce9.csv"  # as Python shows a byte of a name that is not UTF-8
    with io.TextIOWrapper(raw, encoding=encoding) as output:
        JsonLines(Console(file=output), Told().trials).say(name)
        assert json.loads(raw.getvalue())["text"] == name


def test_an_event_holds_no_secret_and_each_is_passed_on_at_once() -> None:
    class Pipe(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    pipe = Pipe()
    display = JsonLines(Console(file=pipe), Told().trials, "run")
    display.say("postgresql://me:kanarienvogel@host/db does not answer")
    display.begin("4f1c", {"data.path": "https://me:kanarienvogel@host/x"}, "", 0)
    assert "kanarienvogel" not in pipe.getvalue()
    assert pipe.flushed == 2
    assert events(pipe)[1]["run"] == "4f1c"


@pytest.mark.parametrize(
    ("study", "per_s", "left", "expected"),
    [
        (status(), None, None, "0/20; no best yet; time left unknown"),
        (status(20, 0, best=(3, 0.51)), 0.1, 0.0, "20/20: 20 complete; best 0.5100 (trial 3); 6.0/min"),
        (
            status(4, 16, n_complete=1, n_pruned=2, n_failed=1, best=(0, 0.5), co2eq_kg=0.00123),
            1 / 600,
            7200.4,
            "4/20: 1 complete, 2 pruned, 1 failed; best 0.5000 (trial 0); 6.0/h; 2h00m left; 1.23 g CO2eq",
        ),
    ],
)
def test_the_status_of_a_study_is_one_line(
    study: StudyStatus, per_s: float | None, left: float | None, expected: str
) -> None:
    assert status_line(study, per_s, left) == expected


def test_a_storage_that_does_not_answer_leaves_the_last_status() -> None:
    output, told = io.StringIO(), Told(status(7, 13))
    trials = told.trials
    lines = PlainLines(Console(file=output), trials)
    lines.open("study seen", {})

    def away() -> StudyStatus:
        raise OSError("the database is away")

    trials._read_status = away
    lines.begin("7", {}, "", 0)
    lines.end("7", "COMPLETE", 0.5, "")
    assert read(output)[-1].startswith("7/20: 7 complete")
