"""Commands that may not do what root may: permissions of files hold for them, whoever runs the tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

OTHER_USER = 12345


def prefix() -> list[str]:
    """Return what to put before a command so that permissions hold for it; skip the test if that cannot be had."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may read and write everywhere, and there is no setpriv")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def give_away(path: Path) -> None:
    """Make a file or folder another user's, who alone may use it; without root, nobody may use it."""
    path.chmod(0o700 if path.is_dir() else 0o600)
    if os.geteuid() == 0:
        os.chown(path, OTHER_USER, -1)
    else:
        path.chmod(0)
