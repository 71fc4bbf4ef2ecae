"""The search service: `python -m system.services.search.app`."""

from __future__ import annotations

from system.kernel import http
from system.kernel.http import Answer, Call
from system.kernel.settings import Settings
from system.ports import Ports
from system.services.search import policy
from system.services.search.handlers import Search
from system.services.shared import hosting, paging, shapes
from system.services.shared.reading import Profiles, Tweets

NAME = "search"
NEEDS = ("index", "hot", "tweets", "users")


class Routes:
    """HTTP in front of `Search`."""

    def __init__(self, search: Search, profiles: Profiles) -> None:
        self._search, self._profiles = search, profiles

    def rows(self) -> list[http.Row]:
        """Return the table of routes."""
        return [("GET", "/2/tweets/search/recent", self.recent)]

    async def recent(self, call: Call) -> Answer:
        """`GET /2/tweets/search/recent?query=`: newest tweets that hold all words."""
        _ = call.user_id  # only who came through the gateway may search
        query = call.query()
        fields, with_authors = shapes.fields_of(query), shapes.wants_authors(query)
        if "next_token" in query:  # Twitter's search takes the cursor under either name
            query.setdefault("pagination_token", query["next_token"])
        window = paging.window(query, policy.DEFAULT_RESULTS, policy.MIN_RESULTS)
        words = policy.words(query.get("query"))
        found, scanned, ended = await self._search.recent(words, window.before, window.since_id, window.limit, call.spent)
        users = await self._profiles.get(tweet.author_id for tweet in found) if with_authors else None
        token = paging.next_token(scanned, ended, window.since_id)
        return Answer(shapes.page([shapes.tweet(tweet, fields) for tweet in found], token, users))


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Put the service together on `ports`."""
    search = Search(ports.index, Tweets(ports.hot, ports.tweets))
    return hosting.Service(Routes(search, Profiles(ports.users, settings.policies.cache.profile_ttl_s)).rows())


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
