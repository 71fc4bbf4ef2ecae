"""Which words a search asks for, and which version of a document wins. Decides; reads no clock, no store."""

from __future__ import annotations

from system.kernel.errors import WrongInput

MAX_QUERY = 512        # characters; Twitter's API v2 for recent search
MAX_WORDS = 16         # words; each is one term of a bool query
DEFAULT_RESULTS = 10   # Twitter's API v2
MIN_RESULTS = 1        # Twitter asks for 10; a smaller page costs nobody


def words(query: str | None) -> str:
    """Return the words of a query, lower-case, separated by blanks. Raises WrongInput where there is none or too much."""
    if not query or len(query) > MAX_QUERY:
        raise WrongInput(f"`query` has {len(query or '')} characters; it must have 1 to {MAX_QUERY}.")
    found = "".join(char if char.isalnum() or char in "_#@'" else " " for char in query.lower()).split()
    found = [word for word in found if any(char.isalnum() for char in word)]
    if not 1 <= len(found) <= MAX_WORDS:
        raise WrongInput(f"`query` holds {len(found)} words; it must hold 1 to {MAX_WORDS}. Operators are not known, only words.")
    return " ".join(found)


def version(deleted: bool, read_began_ns: int, read_ended_ns: int) -> int:
    """Return the external version of a document that was read from the truth between the two wall times.

    A live one counts from the begin of its read, a deleted one from the end: a read that still saw the
    tweet alive began before any read that saw it deleted had ended, so it can never win.
    """
    return read_ended_ns if deleted else read_began_ns
