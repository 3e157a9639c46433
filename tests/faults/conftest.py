"""Fixtures of the tests of faults: a study's storage, and an undisturbed study."""

from __future__ import annotations

import pytest

from tests.faults import studies


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str | None:
    """The study's storage, by ``studies.each_storage``: None is the journal, else a new database."""
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else None


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> studies.Study:
    """The study of these tests without any fault, by an interpreter of its own."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = studies.run(folder, fresh=True)
    assert ended.code == 0, ended.output
    study = studies.Study(folder)
    studies.check_whole(study)
    for number in range(studies.N_TRIALS):
        result = study.result(number)
        # Otherwise early stopping would not be tested, nor the choice of a checkpoint that is not the last.
        assert result["best_step"] < result["steps"] < 20, result
    return study
