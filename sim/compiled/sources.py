"""Which sources are compiled, and the folder where the result is kept: its name is a hash of them.

numba's own cache looks only at the file of a function, not at those that it calls (numba issue 1833). So the folder
changes whenever any source or version does.
"""

from __future__ import annotations

import hashlib
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMPILED = (
    "sim/compiled/*.py", "sim/streams.py", "sim/disciplines.py", "sim/services.py", "sim/stations.py", "sim/views.py",
    "system/kernel/ids.py", "system/services/*/policy.py", "system/kernel/resilience/*.py",
)  # fmt: skip
"""The sources whose functions or constants are compiled."""


def fingerprint() -> str:
    """Return a hash of the sources and of the versions that compile them."""
    versions = [sys.version, *(metadata.version(name) for name in ("numba", "numpy", "llvmlite"))]
    digest = hashlib.sha256("\n".join(versions).encode())
    for path in sorted(path for pattern in COMPILED for path in ROOT.glob(pattern)):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def folder() -> Path:
    """Return the folder of the compiled functions."""
    return Path(__file__).parent / "__pycache__" / fingerprint()
