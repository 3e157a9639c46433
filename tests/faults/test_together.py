"""Several commands on one study at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults import studies
from faults.studies import WORDS, Study

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("storage", ["journal", "postgresql"])
def test_two_commands_begun_at_once_share_a_new_study(
    storage: str, tmp_path: Path, undisturbed: Study, request: pytest.FixtureRequest
) -> None:
    url: str | None = None if storage == "journal" else request.getfixturevalue("postgres_url")
    words = (*WORDS, *studies.storage_words(url))
    # Each waits between counting the trials and adding one: whoever could step in between would double it.
    commands = [studies.start(tmp_path, words, ("wait", "count")) for _ in range(2)]
    ended = [studies.finish(command) for command in commands]

    assert [each.code for each in ended] == [0, 0], "\n".join(each.output for each in ended)
    output = "".join(each.output for each in ended)
    assert [output.count(f"trial {number} RUNNING") for number in range(studies.N_TRIALS + 1)] == [1, 1, 0]
    study = Study(tmp_path, url)
    studies.check_whole(study)
    studies.check_equal(study, undisturbed)
