"""The notebook of the documentation runs from its start to its end, and its stored outputs are of the same kinds."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from tools.write_notebook import NOTEBOOK, executed


def _stored() -> NotebookNode:
    notebook: NotebookNode = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    return notebook


def _kinds(notebook: NotebookNode) -> list[list[tuple[str, ...]]]:
    """Of each cell, the kinds of its outputs: the stream's name, or the types of the data."""
    cells = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return [[(each.get("name", ""), *sorted(each.get("data", {}))) for each in outputs] for outputs in cells]


def test_the_stored_outputs_are_those_of_one_run_from_the_start_without_errors() -> None:
    notebook = _stored()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in outputs} == {"stream", "execute_result", "display_data"}
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert re.findall(r"/(?:home|root|tmp|work)/\S*", text) == []
    assert len(text) < 100_000


@pytest.mark.slow
def test_the_notebook_runs_and_prints_what_is_stored(tmp_path: Path) -> None:
    assert _kinds(executed(tmp_path)) == _kinds(_stored())
