"""The command that shows and changes the keys of the access tokens."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Annotated

import typer

from system.kernel.errors import WrongInput
from tweetlab import home
from tweetlab.commands.results import Json
from tweetlab.terminal import Screen

WORDS = ("show", "rotate")


def keys(what: Annotated[str, typer.Argument(help="`show` the keys by name and age, or `rotate` them.")] = "show",
         as_json: Json = False) -> int:
    """Show the keys that sign access tokens, or let a new one follow. No request fails; no secret is ever shown.

    `rotate`: a new key signs, the one before it still holds, and the one before that is retired: its tokens get 401.
    """
    from system.platform import native
    from tweetlab.lab import keys as ring

    if what not in WORDS:
        raise WrongInput(f"`tweetlab keys` was asked to {what!r}; it can {' or '.join(WORDS)}.")
    screen, lab = Screen(as_json), native.Lab(home.ROOT, home.lab_range())
    changed = asyncio.run(ring.rotate(lab, screen.say)) if what == "rotate" else {}
    found = ring.known(lab)
    for key in found:
        screen.show(f"{key.role:<9} {key.kid}  {_age(key.age_s)} old")
    if changed.get("retired"):
        screen.show(f"retired   {changed['retired']}  its tokens are refused from now on")
    if not found:
        screen.show("no key yet; `tweetlab up` makes the first")
    screen.emit({"keys": [dataclasses.asdict(key) for key in found], **changed})
    return 0


def _age(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
