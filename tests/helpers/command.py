"""The command as a user types it, in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Completed:
    """The result of a command."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def tweetlab(*words: str, timeout_s: float = 240, **env: str) -> Completed:
    """Run `tweetlab WORDS` from the root of the project, as `bin/tweetlab` does; return its result."""
    command = [sys.executable, "-m", "tweetlab", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, env=os.environ | env)
    return Completed(done.returncode, done.stdout, done.stderr)
