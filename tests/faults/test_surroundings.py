"""A wrong clock, and no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import studies
from tests.faults.studies import WORDS, Study

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
SLEEP = "import select, time; time.sleep = lambda seconds: select.select((), (), (), seconds)"
"""libfaketime 0.9.10 fails for sleeps until a moment of the monotonic clock, as Python's are."""


class Clock:
    """The time of day of the commands that are started from now on; their monotonic clock is the machine's.

    Args:
        folder: for its files.
        monkeypatch: sets their environment.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if LIBRARY is None:
            pytest.skip("no libfaketime on this machine: apt-get install faketime")
        self._file = folder / "clock"
        self.set(0)
        patches = folder / "patches"
        patches.mkdir()
        (patches / "sitecustomize.py").write_text(SLEEP)
        monkeypatch.setenv("PYTHONPATH", f"{patches}:{studies.ROOT / 'src'}")
        monkeypatch.setenv("LD_PRELOAD", str(LIBRARY))
        monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(self._file))
        monkeypatch.setenv("FAKETIME_CACHE_DURATION", "1")
        monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")

    def set(self, ahead_s: int) -> None:
        """Set it, within a second, so many seconds ahead of the machine's; below 0 is behind."""
        self._file.write_text(f"{ahead_s:+}\n")


@studies.in_short
def test_a_clock_that_jumps_an_hour_ahead_and_back_during_a_study_and_before_it_is_resumed_changes_nothing(
    url: str | None, tmp_path: Path, undisturbed: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*WORDS, *studies.storage_words(url))
    clock = Clock(tmp_path, monkeypatch)
    first = studies.start(tmp_path, words, fresh=True)
    studies.wait_for(first, "trial 0 11%")
    clock.set(3600)
    studies.wait_for(first, "trial 0 COMPLETE")
    clock.set(-3600)
    studies.wait_for(first, "trial 1 22%")
    first.kill()
    assert studies.finish(first).code == -9
    clock.set(-7200)
    again = studies.run(tmp_path, words, fresh=True)
    assert again.code == 0, again.output
    assert "trial 1 RUNNING loss=mnrl resumed" in again.output
    study = Study(tmp_path, url)
    runs = [study.run_of(number).info for number in range(2)]
    assert runs[1].start_time - runs[0].start_time < -1800e3  # milliseconds: the clock was set back in between
    studies.check_whole(study)
    studies.check_equal(study, undisturbed)


@pytest.mark.slow
def test_the_built_in_model_and_data_need_no_network(
    tmp_path: Path, undisturbed: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    ended = studies.run(tmp_path, WORDS, ("offline", "start"), fresh=True)
    assert ended.code == 0, ended.output
    studies.check_whole(Study(tmp_path))
    studies.check_equal(Study(tmp_path), undisturbed)
