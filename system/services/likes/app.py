"""The likes service: `python -m system.services.likes.app`."""

from __future__ import annotations

from collections.abc import Mapping

from system.kernel import ids
from system.kernel.errors import WrongInput
from system.kernel.http import asgi
from system.kernel.http.asgi import Answer, Call
from system.kernel.settings import Settings
from system.ports import Ports
from system.services.likes import policy
from system.services.likes.handlers import LikeService
from system.services.shared import hosting, paging, shapes
from system.services.shared.bodies import view_of
from system.services.shared.reads import Reads
from system.services.shared.sealed_cursors import Seal

NAME = "likes"
NEEDS = ("likes", "like_counts", "users", "hot", "tweets", "media", "edge")


class Routes:
    """HTTP in front of `LikeService`."""

    def __init__(self, service: LikeService, seal: Seal, reads: Reads) -> None:
        self._service, self._seal = service, seal
        self._profiles, self._bodies, self._counts = reads.profiles, reads.bodies, reads.tweet_counts

    def rows(self) -> list[asgi.Row]:
        """Return the table of routes."""
        return [
            ("POST", "/2/users/{id}/likes", self.like),
            ("DELETE", "/2/users/{id}/likes/{tweet_id}", self.unlike),
            ("GET", "/2/tweets/{id}/liking_users", self.liking_users),
            ("GET", "/2/users/{id}/liked_tweets", self.liked_tweets),
        ]

    async def like(self, call: Call) -> Answer:
        """`POST /2/users/{id}/likes`"""
        key = policy.check_key(call.header("idempotency-key"))
        user_id, tweet_id = ids.parse(call.params["id"]), policy.tweet_of(await call.json())
        like = await self._service.like(call.user_id, user_id, tweet_id, call.trace, key, call.spent)
        return Answer({"data": {"liked": like.liked}})

    async def unlike(self, call: Call) -> Answer:
        """`DELETE /2/users/{id}/likes/{tweet_id}`"""
        user_id, tweet_id = ids.parse(call.params["id"]), ids.parse(call.params["tweet_id"], "tweet_id")
        like = await self._service.unlike(call.user_id, user_id, tweet_id, call.trace)
        return Answer({"data": {"liked": like.liked}})

    async def liking_users(self, call: Call) -> Answer:
        """`GET /2/tweets/{id}/liking_users`"""
        query = call.query()
        shapes.user_expansions_of(query)
        cursor, fields = paging.cursor(query, paging.LOWEST), shapes.user_fields_of(query)
        request = policy.page_request(query, cursor.bound)
        page = await self._service.liking_users(call.user_id, ids.parse(call.params["id"]), request, call.spent)
        token = None if page.next_after is None else cursor.next(page.next_after)
        counts = await self._counts.of([user.id for user in page.users], fields)
        return Answer(shapes.user_page(page.users, token, fields, cursor.previous(), counts))

    async def liked_tweets(self, call: Call) -> Answer:
        """`GET /2/users/{id}/liked_tweets`"""
        query, user_id = call.query(), ids.parse(call.params["id"])
        view, cursor = view_of(query), self._unseal(query, user_id)
        request = policy.page_request(query, cursor.bound)
        page = await self._service.liked_tweets(call.user_id, user_id, request, call.spent)
        if not page.tweets:
            await self._profiles.require(user_id)
        token = None if page.next_before is None else cursor.next(page.next_before)
        return Answer(await self._bodies.page(call.user_id, view, page.tweets, call.spent, self._sealed(token, user_id),
                                              self._sealed(cursor.previous(), user_id)))

    # A page of liked tweets may end at one that the caller must not see: its cursors are sealed.

    def _unseal(self, query: Mapping[str, str], user_id: int) -> paging.Cursor:
        token = query.get("pagination_token")
        if token is None:
            return paging.NEWEST
        text = self._seal.open(token, str(user_id))
        if text is None:
            raise WrongInput(f"`pagination_token` {token[:24]!r} was not issued for this list; send `next_token` or "
                             "`previous_token` of a page of the same list unchanged, or leave it out for the first page.")
        return paging.cursor({"pagination_token": text}, paging.NEWEST)

    def _sealed(self, cursor: str | None, user_id: int) -> str | None:
        return None if cursor is None else self._seal.close(cursor, str(user_id))


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Build the service on `ports`."""
    reads = Reads(ports, settings.policies)
    service = LikeService(ports.likes, ports.users, reads.tweets, reads.visibility)
    seal = Seal(settings.edge_secret or settings.jwt_secret, "liked tweets")
    return hosting.Service(Routes(service, seal, reads).rows())


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
