"""How programs of Slurm are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedsweep.errors import WorkerError
from embedsweep.workers.slurm import cancel


def test_programs_of_slurm_get_the_users_variables_but_for_the_one_that_lets_sbatch_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "scancel"
    program.write_text(
        '#!/bin/sh\necho "account $SBATCH_ACCOUNT, wait ${SBATCH_WAIT-unset}, $*" >&2\nexit 1\n', encoding="utf-8"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SBATCH_ACCOUNT", "team")
    monkeypatch.setenv("SBATCH_WAIT", "1")
    with pytest.raises(WorkerError, match="account team, wait unset, --quiet 12"):
        cancel(["12"])
