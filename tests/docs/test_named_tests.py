"""Pages that name the tests which hold their sentences: every one named exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["docs/caches.md", "docs/mesh.md"])
def test_every_test_that_a_page_names_exists(page):
    """A table row without its test would be a promise that nobody holds."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / page).read_text())

    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text()]

    assert len(named) >= 10 and missing == []
