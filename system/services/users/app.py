"""The users service: `python -m system.services.users.app`."""

from __future__ import annotations

from collections.abc import Mapping

from system.kernel import ids
from system.kernel.http import asgi
from system.kernel.http.asgi import Answer, Call
from system.kernel.settings import Settings
from system.ports import Ports, User
from system.services.shared import hosting, shapes, signing
from system.services.shared.public_metrics import TweetCounts
from system.services.shared.reads import Reads
from system.services.users import policy
from system.services.users.edge_routes import EdgeRoutes
from system.services.users.edges import Edges
from system.services.users.handlers import Passwords, UserService
from system.services.users.tokens import TokenRoutes, TokenService

NAME = "users"
NEEDS = ("users", "tokens", "hot")
LATER = ("tweets",)  # counts them for `public_metrics`; nobody should wait for it to log in
CONNECTION = "connection_status"


class Routes:
    """HTTP in front of `UserService`."""

    def __init__(self, service: UserService, counts: TweetCounts) -> None:
        self._service, self._counts = service, counts

    def rows(self) -> list[asgi.Row]:
        """Return the table of routes."""
        return [
            ("POST", "/2/users", self.sign_up),
            ("GET", "/2/users/me", self.me),
            ("GET", "/2/users/{id}", self.profile),
            ("GET", "/2/users", self.many),
            ("GET", "/2/users/by", self.many_by_name),
            ("GET", "/2/users/by/username/{name}", self.by_name),
        ]

    async def sign_up(self, call: Call) -> Answer:
        """`POST /2/users`"""
        key = policy.check_key(call.header("idempotency-key"))
        user = await self._service.sign_up(policy.sign_up(await call.json()), key)
        return Answer({"data": shapes.user(user)}, 201)

    async def me(self, call: Call) -> Answer:
        """`GET /2/users/me`"""
        return Answer({"data": await self._shape(call, await self._service.by_id(call.user_id))})

    async def profile(self, call: Call) -> Answer:
        """`GET /2/users/{id}`"""
        return await self._with_connection(call, await self._service.by_id(ids.parse(call.params["id"])))

    async def by_name(self, call: Call) -> Answer:
        """`GET /2/users/by/username/{name}`"""
        return await self._with_connection(call, await self._service.by_name(call.params["name"]))

    async def _with_connection(self, call: Call, user: User) -> Answer:
        """Return one user, with the `connection_status` to the caller if `user.fields` names it."""
        shape, fields = await self._shape(call, user), shapes.user_fields_of(call.query())
        if fields is not None and CONNECTION in fields:
            shape[CONNECTION] = await self._service.connections(call.user_id, user.id)
        return Answer({"data": shape})

    async def many(self, call: Call) -> Answer:
        """`GET /2/users?ids=`"""
        query = call.query()
        wanted = list(dict.fromkeys(ids.parse(part, "ids") for part in policy.listed(query, "ids")))
        users = await self._service.by_ids(wanted)
        return await self._several({str(key): users.get(key) for key in wanted}, "ids", query)

    async def many_by_name(self, call: Call) -> Answer:
        """`GET /2/users/by?usernames=`"""
        query = call.query()
        names = {name.lower(): name for name in map(policy.check_username, policy.listed(query, "usernames"))}
        users = await self._service.by_names(list(names))
        return await self._several({name: users.get(lower) for lower, name in names.items()}, "usernames", query)

    async def _shape(self, call: Call, user: User) -> shapes.Json:
        query = call.query()
        shapes.user_expansions_of(query)
        fields = shapes.user_fields_of(query)
        return shapes.user(user, fields, await self._counts.of([user.id], fields))

    async def _several(self, users: Mapping[str, User | None], parameter: str, query: Mapping[str, str]) -> Answer:
        """Return the users that exist, in the order of the request, and an error for each of the others."""
        shapes.user_expansions_of(query)
        fields, existing = shapes.user_fields_of(query), [user for user in users.values() if user is not None]
        counts = await self._counts.of([user.id for user in existing], fields)
        body: shapes.Json = {}
        if existing:
            body["data"] = [shapes.user(user, fields, counts) for user in existing]
        if absent := [shapes.missing("user", name, parameter) for name, user in users.items() if user is None]:
            body["errors"] = absent
        return Answer(body)


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Build the service on `ports`. Raises CouldNotRun if TWEETLAB_JWT_SECRET is missing or too short."""
    settle_s = settings.policies.cache.privacy_ttl_s
    reads = Reads(ports, settings.policies)
    edges = Edges(ports.users, reads.visibility, settle_s, hot=ports.hot)
    passwords, keys = Passwords(), signing.Keys(settings.jwt_secret, settings.jwt_secret_previous)
    tokens = TokenService(ports.users, ports.tokens, passwords, keys)
    return hosting.Service([
        *Routes(UserService(ports.users, passwords), reads.tweet_counts).rows(),
        *EdgeRoutes(edges, reads.tweet_counts).rows(), *TokenRoutes(tokens).rows()])


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build, LATER)
