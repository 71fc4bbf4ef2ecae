"""Terminal output: progress on stderr, results on stdout, plain lines if there is no terminal.

With `--json` stdout contains one JSON value and nothing else. Texts are printed verbatim: brackets in a log
line or a path are not markup.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

Say = Callable[[str], None]


class Screen:
    """`json_only`: results go to stdout as JSON. Progress always goes to stderr."""

    def __init__(self, json_only: bool = False) -> None:
        self.json_only = json_only
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)
        self.out = Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Print one line of progress, with the seconds since the command started."""
        self.err.print(Text.assemble((f"{time.monotonic() - self._began:6.1f} s", "dim"), f"  {text}"))

    def warn(self, text: str) -> None:
        """Print one line that users should act on."""
        self.err.print(Text(text, "yellow"))

    def show(self, text: Any) -> None:
        """Print one result (text or a rich renderable); nothing with `--json`."""
        if not self.json_only:
            self.out.print(text, markup=False)

    def emit(self, value: Any) -> None:
        """Print the result as JSON, only with `--json`."""
        if self.json_only:
            print(json.dumps(value, indent=2, default=str))

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print a step's title at its start, and how long it took at its end."""
        self.say(f"{title} …")
        began = time.monotonic()
        yield
        self.say(f"{title}: done in {time.monotonic() - began:.1f} s")
