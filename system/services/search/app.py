"""The search service: `python -m system.services.search.app`."""

from __future__ import annotations

from typing import Any

from system.kernel.errors import WrongInput
from system.kernel.http import asgi
from system.kernel.http.asgi import Answer, Call
from system.kernel.settings import Settings
from system.ports import Ports
from system.services.search import policy, query_parser
from system.services.search.cursors import Seal
from system.services.search.handlers import PageRequest, Search
from system.services.shared import hosting, paging, shapes
from system.services.shared.reads import Reads

NAME = "search"
NEEDS = ("index", "hot", "tweets", "users", "media", "edge", "likes", "like_counts")
ABOUT = ("query", "sort_order", "since_id", "until_id", "start_time", "end_time")  # parameters that a cursor is bound to
TOKENS = ("next_token", "pagination_token")  # Twitter's search accepts the cursor under either name


class Routes:
    """HTTP in front of `Search`."""

    def __init__(self, search: Search, seal: Seal, reads: Reads) -> None:
        self._search, self._seal = search, seal
        self._profiles, self._media, self._metrics = reads.profiles, reads.media, reads.metrics

    def rows(self) -> list[asgi.Row]:
        """Return the table of routes."""
        return [("GET", "/2/tweets/search/recent", self.recent)]

    async def recent(self, call: Call) -> Answer:
        """`GET /2/tweets/search/recent?query=`: tweets that match, best first or newest first (`sort_order`)."""
        viewer_id, query = call.user_id, call.query()
        fields, with_authors = shapes.fields_of(query), shapes.wants_authors(query)
        about = "\n".join(query.get(name, "") for name in ABOUT)
        tweets, cursor = await self._search.recent(viewer_id, self._request(query, about), call.spent)
        users = shapes.users(await self._profiles.get(tweet.author_id for tweet in tweets), query) if with_authors else None
        token = None if cursor is None else self._seal.close(cursor, about)
        metrics = await self._metrics.of(tweets, fields)
        body = _page([shapes.tweet(tweet, fields, metrics) for tweet in tweets], token, users)
        await self._media.include(body, query, tweets)
        return Answer(body)

    def _request(self, query: dict[str, str], about: str) -> PageRequest:
        tokens = {query[name] for name in TOKENS if name in query}
        if len(tokens) > 1:
            raise WrongInput("`next_token` and `pagination_token` differ; send one of them.")
        before, since = policy.bounds(query)
        limit = paging.window({name: query[name] for name in ("max_results",) if name in query}, policy.DEFAULT_RESULTS,
                              policy.MIN_RESULTS).limit
        return PageRequest(query_parser.parse(query.get("query")), policy.order_of(query.get("sort_order")), limit, before, since,
                           self._seal.open(tokens.pop(), about) if tokens else None)


def _page(data: list[shapes.Json], token: str | None, users: Any) -> shapes.Json:
    """Return the envelope; `newest_id` and `oldest_id` are by age even if the page is ordered by rank."""
    envelope = shapes.page(data, token, users)
    if data:
        by_age = sorted((shape["id"] for shape in data), key=int)
        envelope["meta"].update(newest_id=by_age[-1], oldest_id=by_age[0])
    return envelope


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Build the service on `ports`."""
    reads = Reads(ports, settings.policies)
    search = Search(ports.index, reads.tweets, reads.usernames, reads.visibility, settings.policies.search)
    return hosting.Service(Routes(search, Seal(settings.edge_secret or settings.jwt_secret), reads).rows())


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
