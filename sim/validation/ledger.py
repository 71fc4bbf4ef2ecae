"""The ledger of validations: one JSON object per line, appended and never changed.

A prediction is written, with the hash of its numbers, before the runs that test it. Entries:

| type | keys |
|---|---|
| `begin` | identity, commit, calibration (label, fingerprint), quick |
| `prediction` | identity, load, predicted, sha256 |
| `run` | identity, load (name), repeat, run (id), examined; or void: why it does not count |
| `verdict` | identity, rows, rivals, mutations |
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FILE = "ledger.jsonl"


class Ledger:
    """The file `folder`/ledger.jsonl."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add one entry with the time of writing, on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": at, **entry}, sort_keys=True) + "\n")
            file.flush()

    def entries(self, identity: str = "") -> Iterator[dict[str, Any]]:
        """Yield the entries of a model, oldest first; "" for all. A line cut off by a crash is left out."""
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if not identity or entry.get("identity") == identity:
                yield entry


def sha256(predicted: Mapping[str, Any]) -> str:
    """Return the hash of a prediction's numbers."""
    return hashlib.sha256(json.dumps(predicted, sort_keys=True).encode()).hexdigest()
