"""A run for everybody's eyes: report and record in reports/gallery/<name>/, without whose machine it was.

Host name, user, absolute paths and addresses beyond loopback are taken out; then the finished text is scanned,
and a find refuses the whole publication: what the washing missed is told, never shipped.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports import record
from reports.page import render, texts
from system.kernel import errors

LIMIT_BYTES = 1_000_000
GALLERY = Path(__file__).parent / "gallery"
DROPPED_KEYS = frozenset({"host_name", "hostname", "user", "username", "home", "cwd", "machine_id", "node_name"})
COMMON_WORDS = frozenset({"root", "admin", "user", "ubuntu", "debian", "localhost", "runner", "main", "test"})

_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,63}$")
_ROOTS = "home|root|work|tmp|var|usr|opt|etc|srv|mnt|media|data|run|proc|sys|dev|Users|private|Volumes"
_PATH = re.compile(rf"(?<![\w.<])/(?:{_ROOTS})(?:/[\w.+@-]+)+/?|(?<![\w/])[A-Za-z]:\\[\w\\.-]+")
_ADDRESS = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
_ADDRESS6 = re.compile(r"(?<![\w:])(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}(?![\w:])", re.IGNORECASE)
_LOOPBACK = re.compile(r"^(127\.\d+\.\d+\.\d+|0\.0\.0\.0)$")


@dataclass(frozen=True)
class Whose:
    """The words that tell whose machine it was."""

    names: tuple[str, ...]

    @classmethod
    def here(cls) -> Whose:
        """Host and user names of this machine; words too common to search for are left out."""
        host = socket.gethostname()
        found = {host, host.split(".")[0], socket.getfqdn(), _user(), Path.home().name}
        return cls(tuple(sorted(name for name in found if len(name) >= 3 and name.lower() not in COMMON_WORDS)))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without an entry has no name to give away
        return ""


def publish(run: record.Run, name: str, gallery: Path = GALLERY, whose: Whose | None = None) -> Path:
    """Write report.html and record.json of `run` to `gallery`/<name>, replacing what stands there.

    Raises WrongInput where the name is not a-z0-9_-, where the scan finds what must not be told, or where the
    two files are larger than 1 MB. Nothing is written then.
    """
    if not _NAME.match(name):
        raise errors.WrongInput(f"{name!r} is no name for the gallery; use a-z, 0-9, _ and -, such as first_run.")
    owner = whose or Whose.here()
    files = _files(run, owner)
    refuse_finds(files, owner)
    size = sum(len(text.encode()) for text in files.values())
    if size > LIMIT_BYTES:
        raise errors.WrongInput(
            f"{run.run_id} would take {size:,} bytes; the gallery takes {LIMIT_BYTES:,}: publish a shorter run."
        )
    return _replace(gallery / name, files)


def _files(run: record.Run, owner: Whose) -> dict[str, str]:
    document = wash(run.document, owner)
    clean = record.Run(run.path, document)
    clean.__dict__["twin"] = run.twin  # drawn over the charts; its own record is not published
    return {
        render.REPORT: render.render(clean),
        record.RECORD: texts.utf8_safe(
            json.dumps(document, indent=1, ensure_ascii=False, default=str) + "\n"
        ),
    }


def wash(value: Any, owner: Whose) -> Any:
    """`value` with telling keys dropped, and paths, names and addresses in its texts replaced."""
    if isinstance(value, Mapping):
        kept = ((key, each) for key, each in value.items() if not _names_the_owner(str(key), each))
        return {key: wash(each, owner) for key, each in kept}
    if isinstance(value, list | tuple):
        return [wash(each, owner) for each in value]
    return _wash_text(value, owner) if isinstance(value, str) else value


def _names_the_owner(key: str, value: Any) -> bool:
    """Whether an entry is a text under a telling key. `home` with a number or a table is the route."""
    return key.lower() in DROPPED_KEYS and isinstance(value, str)


def _wash_text(text: str, owner: Whose) -> str:
    text = _PATH.sub(lambda found: "<path>/" + re.split(r"[/\\]", found.group().rstrip("/\\"))[-1], text)
    for name in owner.names:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "<name>", text)
    text = _ADDRESS.sub(lambda found: found.group() if _LOOPBACK.match(found.group()) else "<address>", text)
    return _ADDRESS6.sub("<address>", text)


def finds(text: str, owner: Whose) -> list[str]:
    """What `text` still tells: paths, addresses beyond loopback, names of host and user."""
    found = [match.group() for match in _PATH.finditer(text)]
    found += [match.group() for match in _ADDRESS.finditer(text) if not _LOOPBACK.match(match.group())]
    found += [match.group() for match in _ADDRESS6.finditer(text)]
    found += [name for name in owner.names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
    return list(dict.fromkeys(found))


def refuse_finds(files: Mapping[str, str], owner: Whose) -> None:
    """Raise WrongInput naming file and words where any text tells too much."""
    for name, text in files.items():
        told = finds(text, owner)
        if told:
            raise errors.WrongInput(
                f"{name} still tells {_some(told)}; nothing was published: take it out of the scenario or command and run again."
            )


def _some(words: Iterable[str]) -> str:
    shown = list(words)
    return ", ".join(repr(word) for word in shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _replace(target: Path, files: Mapping[str, str]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        for name, text in files.items():
            (hidden / name).write_text(text, encoding="utf-8")
        os.chmod(hidden, 0o755)
        if target.exists():
            shutil.rmtree(target)
        os.rename(hidden, target)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    return target
