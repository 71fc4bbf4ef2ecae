"""The course: every source has a current executed copy, and the first and all changed ones run without a server."""

import re
import subprocess
from pathlib import Path

import nbformat
import pytest

from bench.notebooks import pairs

ROOT = Path(__file__).resolve().parents[2]
SOURCES = pairs.sources()
RECORDS = sorted((ROOT / "notebooks" / "data").iterdir())


def changed() -> list[Path]:
    """Return the first source and those that differ from the last commit or from their executed copy."""
    done = subprocess.run(["git", "status", "--porcelain", "notebooks"], cwd=ROOT, capture_output=True, text=True)
    return [path for path in SOURCES if path.stem.startswith("01_") or path.name in done.stdout or not pairs.is_current(path)]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_an_executed_copy_is_of_its_source_and_small(source):
    """It stores the source's SHA-256, is at most 1 MB, and no cell in it failed."""
    assert pairs.problems(source) == []
    notebook = nbformat.read(pairs.pair(source), as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]

    assert outputs and not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs), "a notebook has at least one figure"


@pytest.mark.slow
@pytest.mark.parametrize("source", changed(), ids=lambda path: path.stem)
def test_the_first_and_every_changed_notebook_runs(source):
    """A cell that raises fails the test."""
    assert pairs.execute(source).cells


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_has_the_parts_that_a_reader_expects(source):
    """A question, the reader's own prediction before the first simulation, a measured run, the gap, three exercises, answers."""
    text = source.read_text()

    assert "**Question.**" in text and "The gap, explained" in text
    assert re.search(r"course\.predict\([^)]*, None\)", text), "the prediction of the reader is left open"
    assert text.index("course.predict(") < text.index("course.compare(")
    assert 'api.load("' in text, "a measured run is loaded"
    assert [number for number in "123" if f"\n# {number}. " in text[text.index("## Exercises"):]] == ["1", "2", "3"]
    answers = ROOT / "notebooks" / "answers" / re.search(r"notebooks/answers/(\w+\.md)", text)[1]
    assert len(re.findall(r"^\d\. ", answers.read_text(), flags=re.M)) == 3


@pytest.mark.parametrize("folder", RECORDS, ids=lambda path: path.name)
def test_a_measured_record_is_real_small_and_used(folder):
    """An excerpt of a run of the real system, at most 1 MB."""
    from tweetlab import api

    run = api.load(folder)
    size = sum(file.stat().st_size for file in folder.iterdir())

    assert not run.is_predicted and run.record.document["validity"]["verdict"] == "VALID"
    assert size <= pairs.LIMIT_BYTES and len(run.history()) > 500
    assert any(f"notebooks/data/{folder.name}" in source.read_text() for source in SOURCES)


def test_the_model_from_nothing_has_at_most_sixty_lines():
    """It is short enough to be written by a student."""
    text = (ROOT / "notebooks" / "12_read_path_from_nothing.py").read_text()
    model = text[text.index("PATH = ["):text.index("# %%", text.index("class ReadPath"))]

    assert len([line for line in model.splitlines() if line.strip()]) <= 60
