from __future__ import annotations

from pathlib import Path

import pytest

from embedsweep.study.mounts import shared_file_system

TABLE = r"""
/dev/sda1 / ext4 rw,relatime 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/local xfs rw 0 0
//nas/my\040files /mnt/my\040files cifs rw 0 0
overlay /box fuse.fuse-overlayfs rw 0 0
me@there: /far fuse.sshfs rw 0 0
mds@o2ib:/scratch /scratch lustre rw 0 0
autofs /auto autofs rw 0 0
server:/auto /auto nfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/root/sweeps", None),
        ("/home/me/sweeps/night", "nfs4"),
        ("/home", "nfs4"),
        ("/homes/me", None),
        ("/home/local/sweeps", None),
        ("/mnt/my files/sweeps", "cifs"),
        ("/box/sweeps", None),
        ("/far/sweeps", "fuse.sshfs"),
        ("/scratch/me", "lustre"),
        ("/auto/me", "nfs"),
    ],
)
def test_a_file_system_that_other_machines_share_is_known_by_its_type(
    path: str, kind: str | None, tmp_path: Path
) -> None:
    table = tmp_path / "mounts"
    table.write_text(TABLE.lstrip(), encoding="utf-8")
    assert shared_file_system(Path(path), table) == kind


def test_a_system_without_a_table_has_none(tmp_path: Path) -> None:
    assert shared_file_system(tmp_path, tmp_path / "missing") is None


def test_the_folders_of_this_test_are_on_this_machine(tmp_path: Path) -> None:
    assert shared_file_system(tmp_path) is None
