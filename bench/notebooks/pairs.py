"""Builds and checks the notebooks.

    python -m bench.notebooks build [NAME ...]     execute the sources that changed (or NAME) and write their .ipynb
    python -m bench.notebooks check [NAME ...]     execute every source; fail on an error, a stale pair or a size above 1 MB

A notebook is one source `notebooks/NN_name.py` (py:percent, what is reviewed and diffed) and one executed copy
`NN_name.ipynb` (what is read), which stores the SHA-256 of its source. Nothing here starts a server.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
LIMIT_BYTES = 1_000_000
TIMEOUT_S = 240


def sources(names: list[str] | None = None) -> list[Path]:
    """Return the sources, all or those whose name starts with one of `names`. Raises SystemExit for an unknown one."""
    found = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
    for name in names or ():
        if not any(path.stem.startswith(name) for path in found):
            raise SystemExit(f"There is no notebook {name!r}; there are {', '.join(path.stem for path in found)}.")
    return [path for path in found if not names or any(path.stem.startswith(name) for name in names)]


def digest(source: Path) -> str:
    """Return the SHA-256 of a source."""
    return hashlib.sha256(source.read_bytes()).hexdigest()


def pair(source: Path) -> Path:
    """Return the executed copy of a source."""
    return source.with_suffix(".ipynb")


def is_current(source: Path) -> bool:
    """Return whether the executed copy is that of this source."""
    import nbformat

    return pair(source).exists() and nbformat.read(pair(source), as_version=4).metadata.get("source_sha256") == digest(source)


def execute(source: Path) -> Any:
    """Return the executed notebook of a source. Raises the error of the first cell that fails."""
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(source)
    client = NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}})
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    return _plain(notebook, source)


def _plain(notebook: Any, source: Path) -> Any:
    """Return the notebook with our metadata alone, without counts and times."""
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}, "jupytext": {"formats": "py:percent,ipynb"},
                         "source_sha256": digest(source)}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {}
        cell.pop("execution_count", None)
        if cell.cell_type == "code":
            cell.execution_count = None
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = None
    return notebook


def retexted(source: Path) -> Any:
    """Return the executed notebook with the texts of `source` if no code has changed since; else None."""
    import jupytext
    import nbformat

    if not pair(source).exists():
        return None
    done, wanted = nbformat.read(pair(source), as_version=4), jupytext.read(source)
    old, new = ([cell for cell in notebook.cells if cell.cell_type == "code"] for notebook in (done, wanted))
    if [cell.source for cell in old] != [cell.source for cell in new]:
        return None
    for executed, cell in zip(old, new, strict=True):
        cell.outputs = executed.outputs
    return _plain(wanted, source)


def build(source: Path) -> Path:
    """Write the executed copy of a source; return it. A change of text alone keeps the results.

    Raises SystemExit if the copy would be larger than 1 MB.
    """
    import nbformat

    text = nbformat.writes(retexted(source) or execute(source))
    if len(text.encode()) > LIMIT_BYTES:
        raise SystemExit(f"{source.name} has {len(text.encode()):,} bytes of results; at most {LIMIT_BYTES:,}: show less.")
    part = pair(source).with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(pair(source))
    return pair(source)


def problems(source: Path) -> list[str]:
    """Return what is wrong with a pair, without executing it."""
    if not is_current(source):
        return [f"{source.name} changed after its .ipynb was written; to fix: make notebooks-build"]
    size = pair(source).stat().st_size
    return [f"{pair(source).name} has {size:,} bytes; at most {LIMIT_BYTES:,}"] if size > LIMIT_BYTES else []


def main(words: list[str]) -> int:
    """Build or check; return the exit code."""
    if not words or words[0] not in ("build", "check"):
        raise SystemExit("usage: python -m bench.notebooks build|check [NAME ...]")
    action, names = words[0], words[1:]
    failed = 0
    start_s = time.monotonic()
    for source in sources(names):
        if action == "build" and not names and is_current(source):
            continue
        before_s = time.monotonic()
        if action == "build":
            build(source)
            found: list[str] = []
        else:
            found = problems(source)
            try:
                execute(source)
            except Exception as problem:
                found.append(str(problem)[-1500:])
        failed += bool(found)
        print(f"{source.stem}: {'; '.join(found) or 'ok'} ({time.monotonic() - before_s:.1f} s)", flush=True)
    print(f"{action} took {time.monotonic() - start_s:.1f} s")
    return 1 if failed else 0
