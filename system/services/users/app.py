"""The users service: `python -m system.services.users.app`."""

from __future__ import annotations

from system.kernel import ids
from system.kernel.errors import WrongInput
from system.kernel.http import asgi
from system.kernel.http.asgi import Answer, Call
from system.kernel.settings import Settings
from system.ports import Ports, User
from system.services.shared import hosting, shapes, signing
from system.services.shared.reads import Reads
from system.services.users import policy
from system.services.users.edge_routes import EdgeRoutes
from system.services.users.edges import Edges
from system.services.users.handlers import Passwords, UserService
from system.services.users.tokens import TokenRoutes, TokenService

NAME = "users"
NEEDS = ("users", "tokens", "hot")
CONNECTION = "connection_status"
MAX_IDS = 100  # ids in one look-up; Twitter's API v2


class Routes:
    """HTTP in front of `UserService`."""

    def __init__(self, service: UserService) -> None:
        self._service = service

    def rows(self) -> list[asgi.Row]:
        """Return the table of routes."""
        return [
            ("POST", "/2/users", self.sign_up),
            ("GET", "/2/users/me", self.me),
            ("GET", "/2/users/{id}", self.profile),
            ("GET", "/2/users", self.many),
            ("GET", "/2/users/by/username/{name}", self.by_name),
        ]

    async def sign_up(self, call: Call) -> Answer:
        """`POST /2/users`"""
        key = policy.check_key(call.header("idempotency-key"))
        user = await self._service.sign_up(policy.sign_up(await call.json()), key)
        return Answer({"data": shapes.user(user)}, 201)

    async def me(self, call: Call) -> Answer:
        """`GET /2/users/me`"""
        return _one(call, await self._service.by_id(call.user_id))

    async def profile(self, call: Call) -> Answer:
        """`GET /2/users/{id}`"""
        return await self._with_connection(call, await self._service.by_id(ids.parse(call.params["id"])))

    async def by_name(self, call: Call) -> Answer:
        """`GET /2/users/by/username/{name}`"""
        return await self._with_connection(call, await self._service.by_name(call.params["name"]))

    async def _with_connection(self, call: Call, user: User) -> Answer:
        """Return one user, with the `connection_status` to the caller if `user.fields` names it."""
        fields = shapes.user_fields_of(call.query())
        shape = shapes.user(user, fields)
        if fields is not None and CONNECTION in fields:
            shape[CONNECTION] = await self._service.connections(call.user_id, user.id)
        return Answer({"data": shape})

    async def many(self, call: Call) -> Answer:
        """`GET /2/users?ids=`"""
        parts = [part for part in call.query().get("ids", "").split(",") if part]
        if not 1 <= len(parts) <= MAX_IDS:
            raise WrongInput(f"`ids` holds {len(parts)} ids; it must hold 1 to {MAX_IDS}, separated by commas.")
        wanted = list(dict.fromkeys(ids.parse(part, "ids") for part in parts))
        users = await self._service.by_ids(wanted)
        fields = shapes.user_fields_of(call.query())
        body: shapes.Json = {"data": [shapes.user(users[key], fields) for key in wanted if key in users]}
        absent = [shapes.missing("user", str(key)) for key in wanted if key not in users]
        if absent:
            body["errors"] = absent
        return Answer(body)


def _one(call: Call, user: User) -> Answer:
    return Answer({"data": shapes.user(user, shapes.user_fields_of(call.query()))})


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Build the service on `ports`. Raises CouldNotRun if TWEETLAB_JWT_SECRET is missing or too short."""
    settle_s = settings.policies.cache.privacy_ttl_s
    edges = Edges(ports.users, Reads(ports, settings.policies).visibility, settle_s, hot=ports.hot)
    passwords, keys = Passwords(), signing.Keys(settings.jwt_secret, settings.jwt_secret_previous)
    tokens = TokenService(ports.users, ports.tokens, passwords, keys)
    return hosting.Service([
        *Routes(UserService(ports.users, passwords)).rows(), *EdgeRoutes(edges).rows(), *TokenRoutes(tokens).rows()])


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
