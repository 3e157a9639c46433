"""Deaths from outside, with default settings: several in one trial, and a terminal that is closed."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults import studies
from tests.faults.studies import WORDS, Study

PLACES = ("step:3", "sealed:5", "step:8", "sealed:10", "step:13")
"""Where trial 0 is killed, one time after another; it has checkpoints at steps 5 and 10 then."""


@studies.in_short
def test_a_trial_whose_process_is_killed_again_and_again_but_gets_further_completes(
    url: str | None, tmp_path: Path, undisturbed: Study
) -> None:
    words = (*WORDS, *studies.storage_words(url))
    for place in PLACES:
        killed = studies.run(tmp_path, words, ("kill", place))
        assert killed.code == -9, killed.output
    again = studies.run(tmp_path, words)
    assert again.code == 0, again.output
    study = Study(tmp_path, url)
    studies.check_whole(study)
    studies.check_equal(study, undisturbed)
    attributes = study.trials[0].user_attrs
    assert attributes["embedsweep.attempts"] == len(PLACES) + 1
    assert (attributes["embedsweep.deaths"]["count"], attributes["embedsweep.deaths"]["checkpoint"]) == (2, 10)


@studies.in_short
def test_a_trial_whose_process_dies_at_the_same_place_every_time_fails_with_that_reason(
    url: str | None, tmp_path: Path, undisturbed: Study
) -> None:
    words = (*WORDS, "study.max_deaths=2", *studies.storage_words(url))
    for place in PLACES[:3]:  # the first is another place
        killed = studies.run(tmp_path, words, ("kill", place))
        assert killed.code == -9, killed.output
    again = studies.run(tmp_path, words)
    assert again.code == 3, again.output
    study = Study(tmp_path, url)
    assert study.states == ["FAIL", "COMPLETE"]
    reason = study.trials[0].user_attrs["embedsweep.failure"]
    assert reason.startswith(
        "its worker died 2 times, one after another, before it got past the checkpoint of step 5 (study.max_deaths=2;"
        " the last sign of life of process "
    )
    assert reason in again.output
    assert study.run_of(0).data.tags["embedsweep.failure"] == reason
    assert study.trials[1].value == undisturbed.trials[1].value


@pytest.mark.parametrize(
    "runner",
    [
        # Also where the tests run under nohup.
        pytest.param(("env", "--default-signal=HUP"), marks=pytest.mark.slow, id="plainly"),
        pytest.param(("nohup",), marks=pytest.mark.faults, id="with nohup"),
    ],
)
def test_a_closed_terminal_interrupts_a_study_and_one_under_nohup_goes_on(
    runner: tuple[str, ...], tmp_path: Path, undisturbed: Study
) -> None:
    if shutil.which("setsid") is None:
        pytest.skip("no setsid on this machine: apt-get install util-linux")
    ours, terminal = pty.openpty()
    os.set_blocking(ours, False)
    # It leads a session of this terminal, as a shell does.
    program = ("setsid", "--ctty", *runner, sys.executable, str(studies.ROOT / "train.py"), "-m", *WORDS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        program, cwd=tmp_path, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    ) as one:
        os.close(terminal)
        while not list(tmp_path.glob("sweeps/*/trials/0000/checkpoints/*/complete.json")):
            assert one.poll() is None
            with suppress(OSError):  # nothing to read; nohup has closed it
                os.read(ours, 65536)
            time.sleep(0.05)
        os.close(ours)
        code = one.wait(studies.WITHIN_S)
    left = Study(tmp_path)
    if runner == ("nohup",):
        assert code == 0
    else:
        assert code == 129
        assert left.states == ["RUNNING"]
        assert left.run_of(0).info.status == left.parent.info.status == "KILLED"
        assert "embedsweep.deaths" not in left.trials[0].user_attrs
        again = studies.run(tmp_path)
        assert again.code == 0, again.output
        left = Study(tmp_path)
    studies.check_whole(left)
    studies.check_equal(left, undisturbed)
