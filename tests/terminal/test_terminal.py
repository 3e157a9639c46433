"""A sweep of twenty trials with two workers as a person sees it: at work, interrupted by Ctrl-C, and resumed."""

from __future__ import annotations

import re

import pytest

from tests.seeing import DONE, N_TRIALS, STUDY, Seen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]  # the first test waits for the sweep

ROW = re.compile(r"^(\d+) +([01]) .*(loss=|resumed)")


def status_of(screen: list[str]) -> str | None:
    """Return the line about the study, which may be folded; None on a screen without one."""
    start = max((index for index, line in enumerate(screen) if DONE.match(line)), default=None)
    return None if start is None else " ".join(line.strip() for line in screen[start:] if line.strip())


def rows_of(screen: list[str]) -> list[str]:
    """Return the lines of the running trials."""
    head = next((index for index, line in enumerate(screen) if line.startswith("trial  worker  done")), None)
    return [] if head is None else [line for line in screen[head + 1 :] if ROW.match(line)]


def test_both_running_trials_are_on_the_screen_while_trials_run(seen: tuple[Seen, Seen]) -> None:
    for command in seen:
        busy = [screen for screen in command.looks if rows_of(screen)]
        workers = [{ROW.match(row)[2] for row in rows_of(screen)} for screen in busy]  # type: ignore[index]
        # Between two trials of a worker, and while the last one runs, there is one row.
        assert sum(each == {"0", "1"} for each in workers) > 5
        shown = "\n".join("\n".join(rows_of(screen)) for screen in busy)
        assert re.search(r"^\d+ +[01] +\d+% +0\.\d{4} +\d+s +", shown, re.MULTILINE), shown  # share, score, time left


def test_the_studys_line_says_how_far_which_is_best_and_how_long_it_takes(seen: tuple[Seen, Seen]) -> None:
    for command in seen:
        lines = [line for screen in command.looks if rows_of(screen) and (line := status_of(screen)) is not None]
        done = [int(DONE.match(line)[1]) for line in lines]  # type: ignore[index]
        assert done == sorted(done)
        # How many the second command begins with depends on how many ended while the first was interrupted.
        assert done[0] < done[-1]
        assert len(set(done)) > (done[-1] - done[0]) / 2
        known = [line for line in lines if re.search(r"best 0\.\d{4} \(trial \d+\)", line)]
        assert known
        assert command is seen[0] or known == lines
        assert all(re.search(r"; (time left unknown|[\dhms]+ left)", line) for line in lines if "20/20" not in line)
        assert any(re.search(r"; \d+\.\d/(min|h); [\dms]+ left; [\d.]+ g CO2eq", line) for line in known)


def test_the_screen_is_never_too_high_and_nothing_that_runs_is_cut_off(seen: tuple[Seen, Seen]) -> None:
    for command in seen:
        for screen in command.looks:
            assert len(screen) <= command.height
            assert max(map(len, screen), default=0) <= command.width
            assert not any("more run" in line for line in screen)


def test_a_finished_trial_is_a_line_that_scrolls_away(seen: tuple[Seen, Seen]) -> None:
    printed = "\n".join(command.printed for command in seen)
    finished = re.findall(r"^trial (\d+) (?:COMPLETE|PRUNED) after \w+ loss=", printed, re.MULTILINE)
    assert sorted(map(int, finished)) == list(range(N_TRIALS))
    assert "RUNNING" not in printed


def test_ctrl_c_says_what_is_kept_and_leaves_no_running_trial(seen: tuple[Seen, Seen]) -> None:
    first, _ = seen
    assert first.exit_code == 130
    words = " ".join(first.printed.split())
    kept = re.search(r"interrupted: (\d+) of 20 trials finished and kept; trials? [\d, ]+ will be resumed", words)
    assert kept is not None, words
    assert f"the same command, or -m study.name={STUDY} workers=local, resumes the study" in words
    assert rows_of(first.looks[-1]) == []


def test_a_resumed_study_says_at_once_what_there_is_and_what_is_waited_for(seen: tuple[Seen, Seen]) -> None:
    first, second = seen
    last = max(int(found) for found in re.findall(r"(\d+) of 20 trials finished", first.printed))
    begun = next(screen for screen in second.looks if any(DONE.match(line) for line in screen))
    first_line, status, *_ = (line for line in begun if line.strip())
    assert first_line.startswith(f"study {STUDY}: 20 trials (tpe); {last} finished before")
    assert re.match(rf"{last}/20: .*; best 0\.\d{{4}} \(trial \d+\)", status)
    assert status in second.printed  # and it stays above the screen
    waiting = [screen for screen in second.looks if any("importing libraries" in line for line in screen)]
    assert waiting
    assert not any(rows_of(screen) for screen in waiting if "workers 0, 1 start" in "\n".join(screen))
    assert sum("resumed" in row for screen in second.looks for row in rows_of(screen)) > 0
