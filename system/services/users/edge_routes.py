"""HTTP in front of `Edges`: following, follow requests, followers, the caller's profile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from system.kernel import ids
from system.kernel.errors import WrongInput
from system.kernel.http import asgi
from system.kernel.http.asgi import Answer, Call
from system.ports import Edge, User
from system.services.shared import paging, shapes
from system.services.shared.public_metrics import TweetCounts
from system.services.users import policy
from system.services.users.edges import Edges

Lister = Callable[[int, int, int, int], Awaitable[list[User]]]


class EdgeRoutes:
    """The routes of edges. Each response states the resulting edge: `following`, `pending_follow`."""

    def __init__(self, edges: Edges, counts: TweetCounts) -> None:
        self._edges, self._counts = edges, counts

    def rows(self) -> list[asgi.Row]:
        """Return the table of routes."""
        return [
            ("POST", "/2/users/{id}/following", self.follow),
            ("DELETE", "/2/users/{id}/following/{target}", self.unfollow),
            ("GET", "/2/users/{id}/followers", self.followers),
            ("DELETE", "/2/users/{id}/followers/{follower}", self.remove),
            ("GET", "/2/users/{id}/following", self.following),
            ("GET", "/2/users/{id}/follow_requests", self.requests),
            ("POST", "/2/users/{id}/follow_requests/{requester}", self.approve),
            ("DELETE", "/2/users/{id}/follow_requests/{requester}", self.refuse),
            ("PUT", "/2/users/me", self.change_me),
        ]

    async def follow(self, call: Call) -> Answer:
        """`POST /2/users/{id}/following`"""
        body = await call.json()
        target = body.get("target_user_id") if isinstance(body, dict) else None
        if not isinstance(target, str):
            raise WrongInput(f"`target_user_id` is {str(target)[:40]!r}; it must be a decimal string.")
        asgi.only(body, ("target_user_id",))
        follower_id, followee_id = ids.parse(call.params["id"]), ids.parse(target, "target_user_id")
        key = policy.check_key(call.header("idempotency-key"))
        return _edge(await self._edges.follow(call.user_id, follower_id, followee_id, call.trace, key))

    async def unfollow(self, call: Call) -> Answer:
        """`DELETE /2/users/{id}/following/{target}`"""
        follower_id, followee_id = ids.parse(call.params["id"]), ids.parse(call.params["target"], "target_user_id")
        edge = await self._edges.unfollow(call.user_id, follower_id, followee_id, call.trace)
        return Answer({"data": {"following": edge.following}})

    async def approve(self, call: Call) -> Answer:
        """`POST /2/users/{id}/follow_requests/{requester}`"""
        user_id, requester_id = ids.parse(call.params["id"]), ids.parse(call.params["requester"], "requester")
        key = policy.check_key(call.header("idempotency-key"))
        return _edge(await self._edges.approve(call.user_id, user_id, requester_id, call.trace, key))

    async def refuse(self, call: Call) -> Answer:
        """`DELETE /2/users/{id}/follow_requests/{requester}`"""
        user_id, requester_id = ids.parse(call.params["id"]), ids.parse(call.params["requester"], "requester")
        return _edge(await self._edges.refuse(call.user_id, user_id, requester_id, call.trace))

    async def remove(self, call: Call) -> Answer:
        """`DELETE /2/users/{id}/followers/{follower}`"""
        user_id, follower_id = ids.parse(call.params["id"]), ids.parse(call.params["follower"], "follower")
        return _edge(await self._edges.remove(call.user_id, user_id, follower_id, call.trace))

    async def change_me(self, call: Call) -> Answer:
        """`PUT /2/users/me`"""
        return Answer({"data": shapes.user(await self._edges.change_profile(call.user_id, policy.profile(await call.json())))})

    async def followers(self, call: Call) -> Answer:
        """`GET /2/users/{id}/followers`"""
        return await self._page(call, self._edges.followers)

    async def following(self, call: Call) -> Answer:
        """`GET /2/users/{id}/following`"""
        return await self._page(call, self._edges.following)

    async def requests(self, call: Call) -> Answer:
        """`GET /2/users/{id}/follow_requests`"""
        return await self._page(call, self._edges.requests)

    async def _page(self, call: Call, read: Lister) -> Answer:
        query = call.query()
        limit = policy.page_limit(query.get("max_results"))
        shapes.user_expansions_of(query)
        fields = shapes.user_fields_of(query)
        cursor = paging.cursor(query, paging.LOWEST)
        users = await read(call.user_id, ids.parse(call.params["id"]), -1 if cursor.bound is None else cursor.bound, limit)
        token = cursor.next(users[-1].id) if len(users) == limit else None
        counts = await self._counts.of([user.id for user in users], fields)
        return Answer(shapes.user_page(users, token, fields, cursor.previous(), counts))


def _edge(edge: Edge) -> Answer:
    return Answer({"data": {"following": edge.following, "pending_follow": edge.pending}})
