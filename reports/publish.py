"""Publication of a run: its anonymized report and record in reports/gallery/<name>/.

Host name, user, absolute paths and non-loopback addresses are redacted. Then the finished files are scanned; if
anything identifying is left, the publication is refused with a list of it, and nothing is written.
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
class Owner:
    """The names that identify a machine and its user."""

    names: tuple[str, ...]

    @classmethod
    def of_this_machine(cls) -> Owner:
        """Return the host and user names of this machine, without words too common to search for."""
        host = socket.gethostname()
        names = {host, host.split(".")[0], socket.getfqdn(), _user(), Path.home().name}
        return cls(tuple(sorted(name for name in names if len(name) >= 3 and name.lower() not in COMMON_WORDS)))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a passwd entry has no name to leak
        return ""


def publish(run: record.Run, name: str, gallery: Path = GALLERY, owner: Owner | None = None) -> Path:
    """Write report.html and record.json of `run` to `gallery`/<name>, replacing existing files.

    `owner`: the names to redact; None for those of this machine. Raises WrongInput, and writes nothing, if the
    name is not a-z0-9_-, if the scan finds identifying text, or if the two files exceed 1 MB.
    """
    owner = owner or Owner.of_this_machine()
    return put(_files(run, owner), name, gallery, owner)


def put(files: Mapping[str, str], name: str, gallery: Path, owner: Owner) -> Path:
    """Write files (name -> text) to `gallery`/<name>. Raises as `publish`."""
    if not _NAME.match(name):
        raise errors.WrongInput(f"{name!r} is not a valid gallery name; use a-z, 0-9, _ and -, such as first_run.")
    refuse_identifying(files, owner)
    size = sum(len(text.encode()) for text in files.values())
    if size > LIMIT_BYTES:
        raise errors.WrongInput(
            f"{name} takes {size:,} bytes; the gallery allows {LIMIT_BYTES:,}: publish a shorter run."
        )
    return _replace(gallery / name, files)


def _files(run: record.Run, owner: Owner) -> dict[str, str]:
    document = redact(run.document, owner)
    redacted = record.Run(run.path, document)
    redacted.__dict__["twin"] = run.twin  # the charts draw it; the twin's record is not published
    return {
        render.REPORT: render.render(redacted),
        record.RECORD: texts.utf8_safe(
            json.dumps(document, separators=(",", ":"), ensure_ascii=False, default=str) + "\n"
        ),
    }


def redact(value: Any, owner: Owner) -> Any:
    """Return `value` without identifying keys, and with paths, names and addresses in its texts replaced."""
    if isinstance(value, Mapping):
        kept = ((key, each) for key, each in value.items() if not _is_identifying(str(key), each))
        return {key: redact(each, owner) for key, each in kept}
    if isinstance(value, list | tuple):
        return [redact(each, owner) for each in value]
    return _redact_text(value, owner) if isinstance(value, str) else value


def _is_identifying(key: str, value: Any) -> bool:
    """Return whether an entry is text under an identifying key. `home` with a number or a table is the route."""
    return key.lower() in DROPPED_KEYS and isinstance(value, str)


def _redact_text(text: str, owner: Owner) -> str:
    text = _PATH.sub(lambda match: "<path>/" + re.split(r"[/\\]", match.group().rstrip("/\\"))[-1], text)
    for name in owner.names:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "<name>", text)
    text = _ADDRESS.sub(lambda match: match.group() if _LOOPBACK.match(match.group()) else "<address>", text)
    return _ADDRESS6.sub("<address>", text)


def identifying(text: str, owner: Owner) -> list[str]:
    """Return the identifying parts of `text`: paths, non-loopback addresses, names of host and user."""
    parts = [match.group() for match in _PATH.finditer(text)]
    parts += [match.group() for match in _ADDRESS.finditer(text) if not _LOOPBACK.match(match.group())]
    parts += [match.group() for match in _ADDRESS6.finditer(text)]
    parts += [name for name in owner.names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
    return list(dict.fromkeys(parts))


def refuse_identifying(files: Mapping[str, str], owner: Owner) -> None:
    """Raise WrongInput, naming the file and the parts, if any text contains identifying parts."""
    for name, text in files.items():
        parts = identifying(text, owner)
        if parts:
            raise errors.WrongInput(
                f"{name} still contains {_first_few(parts)}; nothing was published: "
                "remove it from the scenario or the command and run again."
            )


def _first_few(words: Iterable[str]) -> str:
    listed = list(words)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(repr(word) for word in listed[:3]) + more


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
