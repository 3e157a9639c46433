"""Whether a folder is on a file system that other machines share, where locks of files may exclude nobody."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")

SHARED = re.compile(
    r"(fuse\.)?(nfs\d?|cifs|smb3|smbfs|lustre|gpfs|beegfs|ceph|glusterfs|afs|pvfs2|orangefs|ncpfs|9p)"
    r"|fuse\.(sshfs|s3fs|goofys|gcsfuse|rclone|blobfuse2?|mount-s3|juicefs|seaweedfs|curlftpfs|davfs)"
)
"""Types of file systems that are on another machine. FUSE has local ones, too: those of containers, for example."""


def shared_file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the file system that a path is on if other machines may share it; else, or unknown, None.

    Args:
        path: may not exist yet.
        mounts: the system's table of mounts; only Linux has one.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    above = {str(each) for each in (path.resolve(), *path.resolve().parents)}
    found = ""
    kind: str | None = None
    for fields in map(str.split, lines):
        # Spaces are written as \040, and a later mount hides an earlier one at the same place.
        place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), fields[1])
        if place in above and len(place) >= len(found):
            found, kind = place, fields[2]
    return kind if kind is not None and SHARED.fullmatch(kind) else None
