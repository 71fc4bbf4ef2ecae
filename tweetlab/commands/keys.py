"""`tweetlab keys`: show and rotate the keys that sign access tokens."""

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


def keys(what: Annotated[str, typer.Argument(help="`show` the keys with name and age, or `rotate` them.")] = "show",
         as_json: Json = False) -> int:
    """Show or rotate the keys that sign access tokens.

    `rotate`: a new key signs from now on, the previous one remains valid, and the one before it is retired:
    its tokens get 401. No request fails during a rotation, and no secret is ever shown.
    """
    from system.platform import native
    from tweetlab.lab import keys as ring

    if what not in WORDS:
        raise WrongInput(f"`tweetlab keys` cannot {what!r}; it must be {' or '.join(WORDS)}.")
    screen, lab = Screen(as_json), native.Lab(home.ROOT, home.lab_range())
    changed = asyncio.run(ring.rotate(lab, screen.say)) if what == "rotate" else {}
    rows = ring.known(lab)
    for key in rows:
        screen.show(f"{key.role:<9} {key.kid}  {_age(key.age_s)} old")
    if changed.get("retired"):
        screen.show(f"retired   {changed['retired']}  its tokens are refused from now on")
    if not rows:
        screen.show("no key yet; `tweetlab up` creates the first one")
    screen.emit({"keys": [dataclasses.asdict(key) for key in rows], **changed})
    return 0


def _age(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
