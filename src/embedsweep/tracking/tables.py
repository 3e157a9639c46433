"""Tables as artifacts, in the form of ``mlflow.log_table``: pages sort them, and compare those of several runs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from embedsweep.tracking.names import TABLES
from embedsweep.tracking.records import Files, Record, Tags

Table = Mapping[str, Sequence[object]]
"""Column -> its values: texts, finite numbers or None; all columns are equally long."""


def log_table(write: Callable[[Record], object], name: str, table: Table) -> None:
    """Store a table as an artifact of a run, which has one at most.

    Args:
        write: records into the run.
        name: the artifact's path (``scores/dev.json``).
        table: the columns.
    """
    path = PurePosixPath(name)
    rows = [list(row) for row in zip(*table.values(), strict=True)]
    text = json.dumps({"columns": list(table), "data": rows}, ensure_ascii=False, allow_nan=False)
    with tempfile.TemporaryDirectory(prefix="embedsweep-") as folder:
        file = Path(folder, path.name)
        file.write_text(text, encoding="utf-8")
        write(Files(str(file), str(path.parent) if path.parent.name else None))
    write(Tags({TABLES: json.dumps([{"path": name, "type": "table"}])}))
