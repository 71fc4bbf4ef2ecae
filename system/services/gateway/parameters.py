"""Which query parameters a route accepts: those that its description in `openapi/` lists. Pure.

All others are refused, as Twitter's API does. A parameter that is ignored would give its sender other data than
they asked for, without a word: `next_token` on a timeline would return the first page for ever.
"""

from __future__ import annotations

from urllib.parse import unquote_plus

from system.kernel.errors import InvalidParameter
from system.services.gateway.openapi.parts import Operation

OTHER_NAMES = {"next_token": "pagination_token", "pagination_token": "next_token", "user_fields": "user.fields",
               "tweet_fields": "tweet.fields", "media_fields": "media.fields", "count": "max_results",
               "since": "start_time", "until": "end_time"}
"""Parameter that a client may send -> what it is named where it is refused."""
MAX_SHOWN = 60  # characters of a name or value in an error


class Parameters:
    """The query parameters of one route."""

    def __init__(self, operation: Operation) -> None:
        names = [parameter.name for parameter in operation.parameters if parameter.place == "query"]
        self._names, self._encoded = names, frozenset(name.encode() for name in names)

    def check(self, query: bytes) -> None:
        """Check the names in a query string. Raises InvalidParameter on an unknown or repeated one."""
        names = [part.partition(b"=")[0] for part in query.split(b"&")]
        if not self._encoded.issuperset(names) or len(set(names)) < len(names):
            self._explain(query)

    def _explain(self, query: bytes) -> None:
        """Check again with decoded names, and say what is wrong."""
        seen: set[str] = set()
        for part in query.decode("latin-1").split("&"):
            name, _, value = map(unquote_plus, part.partition("="))
            if not part:
                continue
            if name not in self._names:
                raise InvalidParameter(name[:MAX_SHOWN], value[:MAX_SHOWN], self._refusal(name))
            if name in seen:
                raise InvalidParameter(name, value[:MAX_SHOWN], f"The query parameter [{name}] is repeated; send it once, with "
                                       "several values separated by commas where it takes a list.")
            seen.add(name)

    def _refusal(self, name: str) -> str:
        known = f"is not one of [{','.join(self._names)}]" if self._names else "is unknown; this route has none"
        other = OTHER_NAMES.get(name, "")
        hint = f" Send `{other}` instead." if other in self._names else " Leave it out."
        return f"The query parameter [{name[:MAX_SHOWN]}] {known}.{hint}"
