"""Paths in a checkout. Everything that a run leaves is under `runs/` and `.tweetlab/`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs"
GALLERY = ROOT / "reports" / "gallery"


def lab_range() -> int:
    """Return the range of this lab (TWEETLAB_RANGE, 1 to 250)."""
    from system.kernel import settings

    return settings.from_env(os.environ).range


def commit() -> str:
    """Return the checkout's commit, with `+` if tracked files differ from it; "" outside git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
