"""Correct the paths of a sqlite store whose folder was moved or copied; MLflow makes them absolute and changes none.

Runs and experiments keep the address of their artifacts. Those below the folder's former place are given its present
one; all others, such as a bucket's, stay.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns of MLflow's database that hold addresses of artifacts; an older database lacks some."""

BACKUP_SUFFIX = ".before-move"


def relocate(database: Path) -> list[str]:
    """Give the artifacts of a store that was moved or copied their present addresses.

    The caller holds the store's lock. The database is copied to ``mlflow.db.before-move`` first. If the artifacts were
    left at the former place, nothing changes.

    Args:
        database: the store's sqlite file, with an absolute path; its artifacts are beside it, in ``artifacts``.

    Returns:
        The former addresses of the artifacts' folder; empty if the store was not moved, or has no runs.

    Raises:
        OSError, sqlite3.Error: the database cannot be read or written.
    """
    present = (database.parent / "artifacts").as_uri()
    with closing(sqlite3.connect(database, timeout=5)) as connection:
        folders = _folders_of(connection)
        former = [root for root in folders if root != present and _is_moved(root, folders[root], database)]
        if not former:
            return []
        backup = database.with_name(f"{database.name}{BACKUP_SUFFIX}")
        unfinished = backup.with_name(f"{backup.name}.part")
        unfinished.unlink(missing_ok=True)
        with closing(sqlite3.connect(unfinished)) as copy:
            connection.backup(copy)
        unfinished.replace(backup)
        with connection:  # one transaction: a reader finds all old addresses or all new ones
            changed = [sum([_replace(connection, column, root, present) for column in COLUMNS]) for root in former]
    return [root for root, count in zip(former, changed, strict=True) if count]


def _replace(connection: sqlite3.Connection, place: tuple[str, str], former: str, present: str) -> int:
    """Replace a former address in a column; return how many runs it was the address of."""
    table, column = place
    if not _has_column(connection, place):
        return 0
    cursor = connection.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
        (present, len(former) + 1, len(former) + 1, f"{former}/"),
    )
    return cursor.rowcount if table == "runs" else 0


def _folders_of(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Return the address of each ``artifacts`` folder with the names of the experiments' folders in it.

    Each experiment of embedsweep has one of its own name. One with a number is MLflow's own: another program's, which
    may keep its artifacts elsewhere, or one made in the pages of a store whose folder the others show.
    """
    folders: dict[str, list[str]] = {}
    if _has_column(connection, COLUMNS[0]):
        for name, location in connection.execute("SELECT name, artifact_location FROM experiments"):
            root, _, folder = str(location).rpartition("/")
            if root.startswith("file:") and root.endswith("/artifacts") and unquote(folder) == name:
                folders.setdefault(root, []).append(name)
    return folders


def _is_moved(root: str, folders: list[str], database: Path) -> bool:
    """Return whether some of the folders are beside the database now, or none is at the former place any more."""
    here, there = database.parent / "artifacts", Path(unquote(urlparse(root).path))
    return any((here / name).is_dir() for name in folders) or not any((there / name).is_dir() for name in folders)


def _has_column(connection: sqlite3.Connection, place: tuple[str, str]) -> bool:
    table, column = place
    return any(row[1] == column for row in connection.execute(f"PRAGMA table_info({table})"))
