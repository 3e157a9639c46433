"""A wrong clock, and no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import studies
from tests.faults.studies import WORDS, Study


@pytest.mark.parametrize(
    ("url", "ahead"),
    [
        pytest.param("journal", "-3600", marks=pytest.mark.slow),
        pytest.param("journal", "3600", marks=pytest.mark.faults),
        pytest.param("postgresql", "-3600", marks=pytest.mark.faults),
        pytest.param("postgresql", "3600", marks=pytest.mark.faults),
    ],
    indirect=["url"],
)
def test_a_clock_set_by_an_hour_after_a_kill_changes_nothing(
    url: str | None, ahead: str, tmp_path: Path, undisturbed: Study
) -> None:
    words = (*WORDS, *studies.storage_words(url))
    killed = studies.run(tmp_path, words, ("kill", "step:5"))
    assert killed.code == -9, killed.output
    again = studies.run(tmp_path, words, (f"clock:{ahead}", "start"))
    assert again.code == 0, again.output
    assert "trial 0 RUNNING loss=cosent resumed" in again.output
    study = Study(tmp_path, url)
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
