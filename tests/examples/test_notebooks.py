"""The example's notebooks run from top to bottom, and stand in git without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.ipynb"))
_CELL_S = 400
"""Ray starts in one of them; suits a machine several times slower than one left alone."""


def code_cells(path: Path) -> tuple[Any, list[Any]]:
    """A notebook, and its cells of code."""
    notebook = nbformat.read(path, as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS] == ["sweep.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_stands_without_outputs(path: Path) -> None:
    notebook, cells = code_cells(path)
    nbformat.validate(notebook)
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path) -> None:
    notebook, cells = code_cells(path)
    NotebookClient(notebook, timeout=_CELL_S, resources={"metadata": {"path": str(path.parent)}}).execute()
    (counted,) = (cell for cell in cells if "len(plan.combinations)" in cell.source)
    assert counted.outputs[0]["data"]["text/plain"] == "8"
    assert "study.tie_line_scale" in cells[-1].outputs[0]["data"]["text/plain"]
