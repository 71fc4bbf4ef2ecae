"""The users service: `python -m system.services.users.app`."""

from __future__ import annotations

from urllib.parse import parse_qs

from system.kernel import http, ids
from system.kernel.errors import Unauthorized, WrongInput
from system.kernel.http import Answer, Call
from system.kernel.settings import Settings
from system.ports import Ports, User
from system.services.shared import hosting, shapes
from system.services.shared.visibility import Visibility
from system.services.users import policy
from system.services.users.edge_routes import EdgeRoutes
from system.services.users.edges import Edges
from system.services.users.handlers import UserService

NAME = "users"
NEEDS = ("users",)
MAX_IDS = 100  # ids in one look-up; Twitter's API v2


class Routes:
    """HTTP in front of `UserService`."""

    def __init__(self, service: UserService) -> None:
        self._service = service

    def rows(self) -> list[http.Row]:
        """Return the table of routes."""
        return [
            ("POST", "/2/users", self.sign_up),
            ("POST", "/2/oauth2/token", self.token),
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

    async def token(self, call: Call) -> Answer:
        """`POST /2/oauth2/token`: the password grant of OAuth 2 (RFC 6749, 4.3), form-encoded."""
        form = {name: values[-1] for name, values in parse_qs((await call.body()).decode("latin-1"), encoding="utf-8").items()}
        if form.get("grant_type") != "password":
            wrong = form.get("grant_type", "")[:40]
            raise WrongInput(f"`grant_type` is {wrong!r}; only password is served. Send it form-encoded.")
        try:
            token, life_s = await self._service.token(form.get("username", ""), form.get("password", ""))
        except Unauthorized as problem:
            return Answer({"error": "invalid_grant", "error_description": problem.detail, **problem.body()}, problem.status)
        body = {"token_type": "bearer", "access_token": token, "expires_in": life_s, "scope": policy.SCOPE}
        return Answer(body, headers=[(b"cache-control", b"no-store")])

    async def me(self, call: Call) -> Answer:
        """`GET /2/users/me`"""
        return _one(call, await self._service.by_id(call.user_id))

    async def profile(self, call: Call) -> Answer:
        """`GET /2/users/{id}`"""
        return _one(call, await self._service.by_id(ids.parse(call.params["id"])))

    async def by_name(self, call: Call) -> Answer:
        """`GET /2/users/by/username/{name}`"""
        return _one(call, await self._service.by_name(call.params["name"]))

    async def many(self, call: Call) -> Answer:
        """`GET /2/users?ids=`"""
        parts = [part for part in call.query().get("ids", "").split(",") if part]
        if not 1 <= len(parts) <= MAX_IDS:
            raise WrongInput(f"`ids` holds {len(parts)} ids; it must hold 1 to {MAX_IDS}, separated by commas.")
        wanted = list(dict.fromkeys(ids.parse(part, "ids") for part in parts))
        found = await self._service.by_ids(wanted)
        fields = shapes.user_fields_of(call.query())
        body: shapes.Json = {"data": [shapes.user(found[key], fields) for key in wanted if key in found]}
        absent = [shapes.missing("user", str(key)) for key in wanted if key not in found]
        if absent:
            body["errors"] = absent
        return Answer(body)


def _one(call: Call, user: User) -> Answer:
    return Answer({"data": shapes.user(user, shapes.user_fields_of(call.query()))})


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Put the service together on `ports`. Raises CouldNotRun without a good TWEETLAB_JWT_SECRET."""
    ttl_s = settings.policies.cache.privacy_ttl_s
    edges = Edges(ports.users, Visibility(ports.users, ttl_s), ttl_s)
    return hosting.Service([*Routes(UserService(ports.users, settings.jwt_secret)).rows(), *EdgeRoutes(edges).rows()])


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
