"""Counts connection errors, so that a fault logs one line per kind and target, not one per attempt.

    connection refused by 127.1.9.1:8080: 143 times between 30.1 s and 33.4 s

`connection_error` parses kind and target from a client's message; `Counter` groups repeats into bursts. Both
are pure: no clock, no log. `kernel/telemetry/logs.py` filters log records with them, the load generator
counts its own failures.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass

QUIET_S = 5.0  # without a repeat a burst has ended; clients retry every 0.05 s to 4 s
LONGEST_S = 30.0  # a longer burst is written in parts
REFUSED, CLOSED, LATE, UNREACHABLE = (
    "connection refused by",
    "connection closed by",
    "no answer in time from",
    "no connection to",
)
CODES = {
    errno.ECONNREFUSED: REFUSED,
    errno.ECONNRESET: CLOSED,
    errno.EPIPE: CLOSED,
    errno.ETIMEDOUT: LATE,
    errno.EHOSTUNREACH: UNREACHABLE,
    errno.ENETUNREACH: UNREACHABLE,
    errno.ENOTCONN: CLOSED,
    errno.ECONNABORTED: CLOSED,
    errno.EHOSTDOWN: UNREACHABLE,
}
NAMES = {errno.errorcode[code]: kind for code, kind in CODES.items()}
WORDS = (  # wording of store clients if there is no error code; the first match decides
    (REFUSED, r"connection refused|refused the connection"),
    (UNREACHABLE, r"has failed for \d+ times"),
    (
        CLOSED,
        r"reset by peer|broken pipe|closed by|connection( at \S+| to \S+)? (is |was )?(closed|lost)"
        r"|server closed|connection ?(shutdown|closed|lost|aborted)|closing connection",
    ),
    (LATE, r"timed out|time-?out|no answer within"),
    (
        UNREACHABLE,
        r"no route|unreachable|unable to? ?(connect|bootstrap|update metadata)|(error|failed) connecting"
        r"|(cannot|could not) connect|connect call failed|attempting to reconnect|failed reconnecting"
        r"|no ?(host|brokers) ?available|against any hosts|nodenotready|marked down|coordinator dead"
        r"|create (new )?connection",
    ),
)
CODE = re.compile(r"\berrno (\d+)|\berror (\d+) (?:while )?connecting", re.IGNORECASE)
NAME = re.compile(r"\bE[A-Z]{4,}\b")
PORT = r"(?::|['\"], (?:port[ =])?|,? port[ =])(\d{1,5})(?!\d|\.\d)"
TARGET = re.compile(rf"(?<![\d.])(\d{{1,3}}(?:\.\d{{1,3}}){{3}})(?:{PORT})?")


@dataclass(frozen=True)
class ClientError:
    """`kind`: one of the four above; `target`: host:port as far as the message contains it, else empty."""

    kind: str
    target: str


def connection_error(text: str) -> ClientError | None:
    """Return the connection error in a client's message; None if there is none."""
    kind = _kind(text)
    if kind is None:
        return None
    match = TARGET.search(text)
    return ClientError(kind, ":".join(part for part in match.groups() if part) if match else "")


def _kind(text: str) -> str | None:
    for code in CODE.finditer(text):
        if kind := CODES.get(int(code.group(1) or code.group(2))):
            return kind
    for name in NAME.finditer(text):
        if kind := NAMES.get(name.group()):
            return kind
    return next((kind for kind, words in WORDS if re.search(words, text, re.IGNORECASE)), None)


@dataclass
class Burst:
    """Repeats of one error. `words`: its description; `first_s`, `last_s`: on the caller's clock.

    `shown`: its first error was already logged, so that a burst of one needs no line.
    """

    words: str
    count: int
    first_s: float
    last_s: float
    shown: bool = False

    def line(self, clock: Callable[[float], str]) -> str:
        """Return the summary line; `clock` formats a time."""
        if self.count == 1:
            return f"{self.words}: once at {clock(self.first_s)}"
        return f"{self.words}: {self.count} times between {clock(self.first_s)} and {clock(self.last_s)}"


class Counter:
    """Collects errors by key. A burst is due QUIET_S after its last error, or LONGEST_S after its first."""

    def __init__(self) -> None:
        self._open: dict[Hashable, Burst] = {}

    def add(self, key: Hashable, words: str, at_s: float, shown: bool = False) -> bool:
        """Count one error at `at_s`; the first one's `words` and `shown` are kept.

        Return whether it is the first.
        """
        burst = self._open.get(key)
        if burst is None:
            self._open[key] = Burst(words, 1, at_s, at_s, shown)
            return True
        burst.count += 1
        burst.last_s = max(burst.last_s, at_s)
        return False

    def due(self, now_s: float) -> list[Burst]:
        """Remove the bursts that are due at `now_s` (infinity: all) and return those that need a line."""
        keys = [
            key
            for key, burst in self._open.items()
            if now_s >= burst.last_s + QUIET_S or now_s >= burst.first_s + LONGEST_S
        ]
        bursts = [self._open.pop(key) for key in keys]
        return [burst for burst in bursts if burst.count > 1 or not burst.shown]

    def __len__(self) -> int:
        """Return the number of open bursts."""
        return len(self._open)
