"""The house stands as drawn: rooms inside the checkout, imports downwards, no room named like a standard library module."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("system", "scenarios", "reports", "sim", "chaos", "tweetlab", "bench")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_resolves_inside_the_checkout(room):
    """`import reports` must never find somebody else's package."""
    module = importlib.import_module(room)

    assert Path(module.__file__ or "").resolve().is_relative_to(ROOT)


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_carries_the_name_of_a_standard_library_module(room):
    """A room called `platform` or `queue` would hide the real one."""
    assert room not in sys.stdlib_module_names


def test_imports_run_downwards_only():
    """import-linter holds the floors."""
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stdout[-3000:]


def test_simulation_needs_no_client_of_a_server():
    """`run --on twin` works where only Python is: sim imports no driver of a store."""
    code = (
        "import sys, sim.twin, scenarios.loader, reports.record\n"
        "names = ('cassandra', 'aiokafka', 'psycopg', 'redis', 'elasticsearch', 'minio', 'locust')\n"
        "bad = [m for m in names if m in sys.modules]\n"
        "print(bad)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(
    p for room in ROOMS for p in (ROOT / room).rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_is_longer_than_600_lines(path, record_property):
    """A file that does too much is hard to navigate. Above 350 lines it is reported, above 600 it fails."""
    lines = len(path.read_text().splitlines())
    if lines > 350:
        record_property("long file", f"{path.relative_to(ROOT)}: {lines} lines")

    assert lines <= 600


def test_set_up_needs_the_standard_library_alone():
    """It works beside the installation of the environment."""
    done = subprocess.run([sys.executable, "-S", "-c", "import tweetlab.setup"], cwd=ROOT, capture_output=True, text=True,
                          env={"PYTHONPATH": str(ROOT), "PATH": ""}, timeout=60)

    assert done.returncode == 0, done.stderr[-2000:]
