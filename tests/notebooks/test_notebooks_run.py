"""Every notebook runs from top to bottom without a lab, in a kernel of its own."""

import os
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_and_has_output(path, monkeypatch):
    """A cell that raises fails the test."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = jupytext.read(path)

    NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute(
        env=os.environ | {"PYTHONPATH": str(ROOT)})

    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert outputs


def test_there_is_a_notebook_for_the_first_run():
    """It is the entry point for students."""
    assert (ROOT / "notebooks" / "01_first_run.py") in NOTEBOOKS
