"""What a person sees: progress on stderr, results on stdout, plain lines where no terminal is.

With `--json` stdout holds one JSON value and nothing else. Texts are shown as they are: what a log or a path holds in
brackets is no markup.
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
        """One line of progress, with the seconds since the command began."""
        self.err.print(Text.assemble((f"{time.monotonic() - self._began:6.1f} s", "dim"), f"  {text}"))

    def warn(self, text: str) -> None:
        """One line that the user should act on."""
        self.err.print(Text(text, "yellow"))

    def show(self, text: Any) -> None:
        """One result (text or a rich renderable); nothing with `--json`."""
        if not self.json_only:
            self.out.print(text, markup=False)

    def emit(self, value: Any) -> None:
        """The result as JSON, only with `--json`."""
        if self.json_only:
            print(json.dumps(value, indent=2, default=str))

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Tell a step and what it took."""
        self.say(f"{title} …")
        began = time.monotonic()
        yield
        self.say(f"{title}: done in {time.monotonic() - began:.1f} s")
