"""The search service: `python -m system.services.search.app`."""

from __future__ import annotations

import time

from system.kernel.errors import WrongInput
from system.kernel.http import asgi
from system.kernel.http.asgi import Answer, Call
from system.kernel.settings import Settings
from system.ports import Ports
from system.services.search import counting, policy, query_parser
from system.services.search.cursors import Seal
from system.services.search.handlers import PageRequest, Search
from system.services.shared import hosting, paging
from system.services.shared.bodies import view_of
from system.services.shared.reads import Reads

NAME = "search"
NEEDS = ("index", "hot", "tweets", "users", "media", "edge", "likes", "like_counts")
ABOUT = ("query", "sort_order", "since_id", "until_id", "start_time", "end_time")  # parameters that a cursor is bound to
TOKENS = ("next_token", "pagination_token")  # Twitter's search accepts the cursor under either name


class Routes:
    """HTTP in front of `Search`."""

    def __init__(self, search: Search, seal: Seal, reads: Reads) -> None:
        self._search, self._seal, self._bodies = search, seal, reads.bodies

    def rows(self) -> list[asgi.Row]:
        """Return the table of routes."""
        return [("GET", "/2/tweets/search/recent", self.recent), ("GET", "/2/tweets/counts/recent", self.counts)]

    async def recent(self, call: Call) -> Answer:
        """`GET /2/tweets/search/recent?query=`: tweets that match, best first or newest first (`sort_order`)."""
        viewer_id, query = call.user_id, call.query()
        view = view_of(query)
        about = "\n".join(query.get(name, "") for name in ABOUT)
        tweets, cursor = await self._search.recent(viewer_id, self._request(query, about), call.spent)
        token = None if cursor is None else self._seal.close(cursor, about)
        return Answer(await self._bodies.page(viewer_id, view, tweets, call.spent, token))

    async def counts(self, call: Call) -> Answer:
        """`GET /2/tweets/counts/recent?query=`: how many tweets match, by time."""
        query = call.query()
        times_ms = counting.times_of(query, time.time_ns() // 1_000_000)
        before, since = paging.bounds({name: query[name] for name in ("since_id", "until_id") if name in query})
        request = PageRequest(query_parser.parse(query.get("query")), policy.RECENCY, 0, before, since)
        return Answer(counting.body(times_ms, await self._search.counts(call.user_id, request, times_ms, call.spent)))

    def _request(self, query: dict[str, str], about: str) -> PageRequest:
        tokens = {query[name] for name in TOKENS if name in query}
        if len(tokens) > 1:
            raise WrongInput("`next_token` and `pagination_token` differ; send one of them.")
        before, since = paging.bounds(query)
        limit = paging.window({name: query[name] for name in ("max_results",) if name in query}, policy.DEFAULT_RESULTS,
                              policy.MIN_RESULTS).limit
        return PageRequest(query_parser.parse(query.get("query")), policy.order_of(query.get("sort_order")), limit, before, since,
                           self._seal.open(tokens.pop(), about) if tokens else None)


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Build the service on `ports`."""
    reads = Reads(ports, settings.policies)
    search = Search(ports.index, reads.tweets, reads.usernames, reads.visibility, settings.policies.search)
    return hosting.Service(Routes(search, Seal(settings.edge_secret or settings.jwt_secret), reads).rows())


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
