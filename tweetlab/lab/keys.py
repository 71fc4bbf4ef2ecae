"""The keys that sign access tokens, and their rotation without a failed request.

| file in .tweetlab/<range> | content |
|---|---|
| jwt.secret | the key that signs |
| jwt.secret.previous | the previous key: its tokens are valid, nothing signs with it |
| jwt.secret.next | the new key of a rotation in progress; removed when it is complete |

The order makes it safe: a key may sign only when every instance accepts it, so

    every gateway: (next, current)  ->  every users instance: (current, next), still signs with the old key
    -> the files  ->  every users instance: (next, current), signs with the new key

A rotation that was interrupted at any point is completed by the next `rotate`, with the same new key, so no
key is lost or skipped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from system.kernel.errors import CouldNotRun
from system.platform.native import Lab
from system.services.shared import signing
from tweetlab.lab import session
from tweetlab.terminal import Say

NEXT = "jwt.secret.next"


@dataclass(frozen=True)
class Key:
    """One key, by its id.

    `role`: current, previous or next (of an interrupted rotation). `age_s`: since it was created.
    """

    kid: str
    role: str
    age_s: float


def known(lab: Lab) -> list[Key]:
    """Return the lab's keys, the signing one first; empty before its first start."""
    files = {"current": session.KEY, "previous": session.PREVIOUS_KEY, "next": NEXT}
    paths = [(role, lab.paths.state / name) for role, name in files.items()]
    return [Key(signing.kid_of(path.read_text()), role, max(0.0, time.time() - path.stat().st_mtime))
            for role, path in paths if path.exists()]


async def rotate(lab: Lab, say: Say) -> dict[str, str]:
    """Make a new key the current one and the current one the previous; return the `kid` of `current`, `previous` and
    `retired` ("": none).

    A lab that is down only changes its files. Raises CouldNotRun if an instance does not start; then call it
    again.
    """
    with _alone(lab):
        retired = session.previous_secret_of(lab)
        old, new, resumed = _start_rotation(lab)
        gateways = {"TWEETLAB_JWT_SECRET": new, "TWEETLAB_JWT_SECRET_PREVIOUS": old}
        kinds = {node.kind for node in await lab.status() if node.role == "service"}
        if resumed:
            say(f"resuming the interrupted rotation to {signing.kid_of(new)}")
        if kinds:
            await _step(lab, say, "gateway", gateways, "accept the new key")
            before = {"TWEETLAB_JWT_SECRET": old, "TWEETLAB_JWT_SECRET_PREVIOUS": new}
            await _step(lab, say, "users", before, "accept the new key")
        _write(lab.paths.state / session.PREVIOUS_KEY, old, made_at=_made_at(lab, old))
        _write(lab.paths.state / session.KEY, new, made_at=_made_at(lab, new))
        if kinds:
            await _step(lab, say, "users", gateways, "sign with the new key")
        (lab.paths.state / NEXT).unlink()
    retired_kid = signing.kid_of(retired) if retired not in ("", old, new) else ""
    return {"current": signing.kid_of(new), "previous": signing.kid_of(old), "retired": retired_kid}


def _start_rotation(lab: Lab) -> tuple[str, str, bool]:
    """Return the old key, the new key and whether a rotation is resumed.

    A new key is on disk before any process has it.
    """
    path = lab.paths.state / NEXT
    resumed, current = path.exists(), session.secret_of(lab)
    if not resumed:
        _write(path, secrets.token_hex(session.SECRET_BYTES), made_at=time.time())
    new = path.read_text()
    return session.previous_secret_of(lab) if new == current else current, new, resumed


async def _step(lab: Lab, say: Say, service: str, env: dict[str, str], what: str) -> None:
    names = await lab.rolling_restart(service, env)
    say(f"{', '.join(names)}: {what}")


def _made_at(lab: Lab, secret: str) -> float:
    """Return when a key was created: the time of the oldest file that contains it."""
    files = [lab.paths.state / name for name in (session.KEY, session.PREVIOUS_KEY, NEXT)]
    return min((path.stat().st_mtime for path in files if path.exists() and path.read_text() == secret), default=time.time())


def _write(path: Path, secret: str, made_at: float) -> None:
    scratch = path.with_name(f"{path.name}.part")
    scratch.touch(mode=0o600)
    scratch.write_text(secret)
    os.utime(scratch, (made_at, made_at))
    scratch.replace(path)


@contextlib.contextmanager
def _alone(lab: Lab) -> Iterator[None]:
    lab.paths.state.mkdir(parents=True, exist_ok=True)
    with (lab.paths.state / "keys.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CouldNotRun("Another rotation of this lab's keys is in progress; wait until it is complete.") from None
        yield
