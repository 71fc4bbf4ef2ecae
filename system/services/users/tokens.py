"""The token endpoint and its revocation, over the ports. `grants` decides what is granted."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

import jwt

from system.kernel.http import asgi
from system.kernel.http.asgi import Answer, Call
from system.kernel.telemetry import metrics
from system.ports import Grant, TokenStore, UserDirectory
from system.services.shared import signing
from system.services.users import grants, policy
from system.services.users.handlers import Passwords

NO_STORE = ((b"cache-control", b"no-store"), (b"pragma", b"no-cache"))  # RFC 6749, 5.1


@dataclass(frozen=True)
class Issued:
    """Tokens for a client. `refresh`: "" if the scope has no offline.access."""

    access: str
    refresh: str
    scope: str


class TokenService:
    """Sign-ins: started with a password, continued by single-use refresh tokens, ended by revocation."""

    def __init__(self, users: UserDirectory, store: TokenStore, passwords: Passwords, keys: signing.Keys) -> None:
        self._users, self._store, self._passwords, self._keys = users, store, passwords, keys

    async def issue(self, request: grants.TokenRequest) -> Issued:
        """Issue tokens for a token request. Raises Refused, StoreUnavailable, Overloaded."""
        try:
            issued = await (self._sign_in(request) if request.grant_type == "password" else self._refresh(request))
        except grants.Refused:
            metrics.count("tweetlab_token_requests_total", result="refused")
            raise
        metrics.count("tweetlab_token_requests_total", result="granted" if request.grant_type == "password" else "refreshed")
        return issued

    async def _sign_in(self, request: grants.TokenRequest) -> Issued:
        scope = grants.granted(request.scope)
        user = await self._users.by_name(request.username) if policy.USERNAME.fullmatch(request.username) else None
        hashed = user.password_hash if user else ""
        if not await self._passwords.matches(request.password[: policy.MAX_PASSWORD + 1], hashed) or user is None:
            raise grants.Refused("invalid_grant", "The username or the password is wrong.")
        grant, refresh = Grant(secrets.token_hex(12), user.id, scope), ""
        if grants.refreshable(scope):
            refresh = secrets.token_urlsafe(32)
            await self._store.begin(grant, grants.hash_of(refresh), grants.REFRESH_LIFE_S)
        return Issued(self._access(grant, scope), refresh, scope)

    async def _refresh(self, request: grants.TokenRequest) -> Issued:
        used = grants.hash_of(request.refresh_token)
        known = await self._store.find(used)
        if known is None:
            raise grants.Refused("invalid_grant", "The refresh token is unknown, expired or revoked; sign in again.")
        # Before the rotation: a refused scope must not use up the token.
        scope = grants.granted(request.scope, frozenset(known.scope.split()))
        refresh = secrets.token_urlsafe(32)
        grant = await self._store.rotate(used, grants.hash_of(refresh), grants.REFRESH_LIFE_S, grants.REVOKED_FOR_S)
        if grant is None or grant.used:
            if grant is not None:
                metrics.count("tweetlab_token_requests_total", result="reused")
            raise grants.Refused("invalid_grant", "The refresh token was used before, so it may have been copied; "
                                                  "every token of this sign-in is revoked. Sign in again.")
        return Issued(self._access(grant, scope), refresh, scope)

    def _access(self, grant: Grant, scope: str) -> str:
        name = f"{grant.id}.{secrets.token_hex(4)}"
        return signing.sign(grants.claims(grant.user_id, scope, name, int(time.time())), self._keys.newest)

    async def revoke(self, token: str) -> None:
        """Revoke an access token, or a refresh token with its whole sign-in.

        An invalid token counts as revoked.

        Raises StoreUnavailable: the token may still be valid, and the caller must retry.
        """
        if token.count(".") != 2:
            await self._store.end(grants.hash_of(token), grants.REVOKED_FOR_S)
        else:
            try:
                claims = self._keys.claims_of(token)
            except (jwt.InvalidTokenError, ValueError):
                return
            left_s = float(claims["exp"]) - time.time() + 60.0  # clocks of gateways may be behind
            await self._store.revoke(signing.name_of(token, claims), left_s)
        metrics.count("tweetlab_token_requests_total", result="revoked")


class TokenRoutes:
    """HTTP in front of `TokenService`."""

    def __init__(self, service: TokenService) -> None:
        self._service = service

    def rows(self) -> list[asgi.Row]:
        """Return the table of routes."""
        return [("POST", "/2/oauth2/token", self.token), ("POST", "/2/oauth2/revoke", self.revoke)]

    async def token(self, call: Call) -> Answer:
        """`POST /2/oauth2/token`"""
        issued = await self._service.issue(grants.token_request(grants.form_of(await call.body(), call.header("content-type"))))
        body = {"token_type": "bearer", "access_token": issued.access, "expires_in": grants.ACCESS_LIFE_S, "scope": issued.scope}
        return Answer(body | ({"refresh_token": issued.refresh} if issued.refresh else {}), headers=list(NO_STORE))

    async def revoke(self, call: Call) -> Answer:
        """`POST /2/oauth2/revoke` (RFC 7009).

        Any holder of the token may revoke it; an invalid token is no error.
        """
        form = grants.form_of(await call.body(), call.header("content-type"))
        if not form.get("token"):
            raise grants.Refused("invalid_request", "`token` is missing.")
        await self._service.revoke(form["token"][: grants.MAX_TOKEN])
        return Answer({"revoked": True}, headers=list(NO_STORE))
