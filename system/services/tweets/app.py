"""The tweets service: `python -m system.services.tweets.app`."""

from __future__ import annotations

from system.kernel import clock, ids
from system.kernel.errors import NotFound
from system.kernel.http import asgi
from system.kernel.http.asgi import Answer, Call
from system.kernel.settings import Settings
from system.ports import Ports
from system.services.shared import hosting, paging, shapes
from system.services.shared.bodies import view_of
from system.services.shared.publisher import Publisher
from system.services.shared.reads import Reads
from system.services.tweets import policy
from system.services.tweets.handlers import IdSource, TweetService
from system.services.tweets.worker_lease import Leasing

NAME = "tweets"
NEEDS = ("tweets", "timelines", "hot", "users", "leases", "keys", "log", "media", "edge", "likes", "like_counts")


class Routes:
    """HTTP in front of `TweetService`."""

    def __init__(self, service: TweetService, reads: Reads) -> None:
        self._service, self._profiles, self._bodies = service, reads.profiles, reads.bodies

    def rows(self) -> list[asgi.Row]:
        """Return the table of routes."""
        return [
            ("POST", "/2/tweets", self.post),
            ("DELETE", "/2/tweets/{id}", self.delete),
            ("GET", "/2/tweets/{id}", self.one),
            ("GET", "/2/tweets", self.many),
            ("GET", "/2/users/{id}/tweets", self.of_user),
            ("GET", "/2/users/{id}/mentions", self.mentions),
        ]

    async def post(self, call: Call) -> Answer:
        """`POST /2/tweets`"""
        user_id = call.user_id
        key = policy.check_key(call.header("idempotency-key"))
        draft = policy.draft(await call.json())
        tweet = await self._service.post(user_id, draft, key, call.trace, call.deadline_ns)
        return Answer({"data": shapes.tweet(tweet)}, 201)

    async def delete(self, call: Call) -> Answer:
        """`DELETE /2/tweets/{id}`"""
        await self._service.delete(call.user_id, ids.parse(call.params["id"]), call.trace)
        return Answer({"data": {"deleted": True}})

    async def one(self, call: Call) -> Answer:
        """`GET /2/tweets/{id}`"""
        view, tweet_id = view_of(call.query()), ids.parse(call.params["id"])
        tweet = (await self._service.by_ids(call.user_id, [tweet_id], call.spent)).get(tweet_id)
        if tweet is None:
            raise NotFound(f"Could not find tweet with id: [{tweet_id}].")
        return Answer(await self._bodies.one(call.user_id, view, tweet, call.spent))

    async def many(self, call: Call) -> Answer:
        """`GET /2/tweets?ids=`"""
        query = call.query()
        view, wanted = view_of(query), policy.id_list(query.get("ids", ""))
        tweets = await self._service.by_ids(call.user_id, wanted, call.spent)
        body = await self._bodies.many(call.user_id, view, [tweets[key] for key in wanted if key in tweets], call.spent)
        absent = [shapes.missing("tweet", str(key)) for key in wanted if key not in tweets]
        if absent:
            body["errors"] = [*absent, *body.get("errors", ())]
        return Answer(body)

    async def of_user(self, call: Call) -> Answer:
        """`GET /2/users/{id}/tweets`"""
        query = call.query()
        view, window = view_of(query), paging.window(query, policy.DEFAULT_RESULTS, policy.MIN_RESULTS)
        author_id = ids.parse(call.params["id"])
        page = await self._service.of_user(call.user_id, author_id, window, call.spent)
        if not page.tweets:
            await self._profiles.require(author_id)
        token = paging.next_token(page.scanned, page.ended, window.since_id, window.cursor)
        body = await self._bodies.page(call.user_id, view, page.tweets, call.spent, token, window.cursor.previous())
        return Answer(body, headers=[(b"x-tweetlab-source", page.source.encode()), (b"x-tweetlab-scanned", b"%d" % page.scanned)])

    async def mentions(self, call: Call) -> Answer:
        """`GET /2/users/{id}/mentions`"""
        query = call.query()
        view, window = view_of(query), paging.window(query, policy.DEFAULT_RESULTS, policy.MIN_RESULTS)
        user_id = ids.parse(call.params["id"])
        page = await self._service.mentions(call.user_id, user_id, window, call.spent)
        if not page.tweets:
            await self._profiles.require(user_id)
        token = paging.next_token(page.scanned, page.ended, window.since_id, window.cursor)
        return Answer(await self._bodies.page(call.user_id, view, page.tweets, call.spent, token, window.cursor.previous()))


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Build the service on `ports`."""
    reads = Reads(ports, settings.policies)
    source = IdSource()
    publisher = Publisher(ports.log, ports.hot)
    leasing = Leasing(ports.leases, source, settings.instance, clock.SystemClock())
    service = TweetService(ports, reads.lists, reads.tweets, publisher, source, reads.visibility, reads.usernames)

    async def start() -> None:
        await leasing.start()
        publisher.start()

    async def stop() -> None:
        await publisher.stop()
        await leasing.stop()

    return hosting.Service(Routes(service, reads).rows(), start, stop)


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
