"""The packages match ARCHITECTURE.md: inside the checkout, imports downwards, no cycles, limited in size."""

from __future__ import annotations

import ast
import graphlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("system", "scenarios", "reports", "sim", "chaos", "tweetlab", "bench")
FILES = sorted(path for root in ROOTS for path in (ROOT / root).rglob("*.py"))
MOST_MODULES = 15
PEERS = {
    "chaos/invariants": "one module per invariant",
    "system/platform/servers": "one module per server",
    "system/ports": "one module per port",
    "tweetlab/commands": "one module per group of commands",
    "sim": "one module per part of the model, of its calibration and of its results",
}
"""Packages that may hold more than MOST_MODULES modules -> why."""


def name_of(path: Path) -> str:
    """Return the module's import path."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, modules: set[str]) -> set[str]:
    """Return the project's modules that `path` imports anywhere: at the top, in a function, for types only."""
    own = name_of(path)
    package = own if path.name == "__init__.py" else own.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (above, node.module or "") if part)
            names.update(f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base for alias in node.names)
    return names & modules - {own}


@pytest.mark.parametrize("root", ROOTS)
def test_a_root_resolves_inside_the_checkout(root):
    """`import reports` must never resolve to another package of that name."""
    module = importlib.import_module(root)

    assert Path(module.__file__ or "").resolve().is_relative_to(ROOT)


@pytest.mark.parametrize("root", ROOTS)
def test_no_root_has_the_name_of_a_standard_library_module(root):
    """A root named `platform` or `queue` would hide the standard one."""
    assert root not in sys.stdlib_module_names


def test_imports_run_downwards_only():
    """import-linter checks the layers."""
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stdout[-3000:]


def test_there_is_no_import_cycle():
    """Deferred and type-only imports count too."""
    modules = {name_of(path) for path in FILES}
    graph = {name_of(path): imported(path, modules) for path in FILES}

    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_a_cycle_would_be_detected():
    """The sorter rejects a graph with a cycle, so the test above can fail."""
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


@pytest.mark.parametrize("package", sorted({path.parent for path in FILES}), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_is_small_enough_to_scan(package):
    """At most 15 modules, except packages of peers."""
    modules = [path for path in package.glob("*.py") if path.name != "__init__.py"]

    assert len(modules) <= MOST_MODULES or str(package.relative_to(ROOT)) in PEERS


def test_the_program_imports_no_test_code():
    """In-memory adapters and mutation tests are below `tests/`; shipped code does not import them."""
    offenders = [name_of(path) for path in FILES if "tests." in path.read_text() and any(
        isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tests"
        for node in ast.walk(ast.parse(path.read_text())))]

    assert offenders == []


def test_simulation_needs_no_client_of_a_server():
    """`run --on twin` works with only Python installed: sim imports no store driver."""
    code = (
        "import sys, sim.twin, scenarios.loader, reports.record\n"
        "names = ('cassandra', 'aiokafka', 'psycopg', 'redis', 'elasticsearch', 'minio', 'locust')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_600_lines(path, record_property):
    """A long file is hard to navigate. Above 350 lines it is reported, above 600 it fails."""
    lines = len(path.read_text().splitlines())
    if lines > 350:
        record_property("long file", f"{path.relative_to(ROOT)}: {lines} lines")

    assert lines <= 600


def test_setup_needs_only_the_standard_library():
    """It runs before the environment is installed."""
    done = subprocess.run([sys.executable, "-S", "-c", "import tweetlab.setup"], cwd=ROOT, capture_output=True, text=True,
                          env={"PYTHONPATH": str(ROOT), "PATH": ""}, timeout=60)

    assert done.returncode == 0, done.stderr[-2000:]
