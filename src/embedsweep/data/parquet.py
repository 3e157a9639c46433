"""Rows of a parquet file.

Owns what is asked of pyarrow. Knows no splits.
"""

from __future__ import annotations

from pathlib import Path

from embedsweep.data.columns import Picker, check_columns, choose
from embedsweep.data.decoding import content_of
from embedsweep.data.rows import Findings, Table
from embedsweep.errors import ConfigError
from embedsweep.schema import DataConfig

_MAGIC = b"PAR1"
"""First and last four bytes of every parquet file (https://parquet.apache.org/docs/file-format/)."""


def read_parquet(path: Path, config: DataConfig) -> Table:
    """Reads the columns asked for of one file.

    Args:
        path: the file.
        config: its columns, by name or by position, and conditions.

    Raises:
        ConfigError: it is no parquet file, or a column is not there.
    """
    check_columns(config.columns)
    content = content_of(path)
    if not content:
        raise ConfigError.single(str(path), "is empty: at least two rows are needed")
    if not content.startswith(_MAGIC):
        raise ConfigError.single(
            str(path), "is no parquet file (it does not begin with PAR1): say what it is, data.format=delimited or so"
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = Findings(str(path))
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        names = file.schema_arrow.names
        choice = choose(names, config, found, "it has")
        if choice is None:
            raise found.error()
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        message = " ".join(str(error).split())
        raise ConfigError.single(str(path), f"is a broken parquet file: {message}; get or write it anew") from None
    picker = Picker(choice, config)
    needed = {*choice.cells, *(position for position, _ in choice.conditions)}
    columns = [
        table.column(index).to_pylist() if index in needed else [None] * table.num_rows for index in range(len(names))
    ]
    for number, fields in enumerate(zip(*columns, strict=True), start=1):
        picker.take(f"{path}, row {number}", fields)
    return picker.table(found)
