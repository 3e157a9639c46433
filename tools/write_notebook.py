"""Run docs/notebook.ipynb in an empty folder and write it with its outputs: ``python -m tools.write_notebook``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

import embedsweep

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"
LONGEST_CELL_S = 600


def executed(folder: Path) -> NotebookNode:
    """Return the notebook after running it from its start in ``folder``, without what differs at every run.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    notebook: NotebookNode = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook, timeout=LONGEST_CELL_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    # The kernel starts in another folder, where it must import this very package.
    package = str(Path(embedsweep.__file__).resolve().parents[1])
    client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        cell.get("outputs", [])[:] = _joined(cell.get("outputs", []))
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Return outputs with neighbouring pieces of one stream as one."""
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and output.output_type == "stream" == last.output_type and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def main() -> None:
    """Write the notebook."""
    with tempfile.TemporaryDirectory(prefix="embedsweep-") as folder:
        notebook = executed(Path(folder))
    nbformat.write(notebook, NOTEBOOK)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
