"""Parameters and responses of the token endpoint and its revocation (RFC 6749, RFC 7009)."""

from __future__ import annotations

from system.kernel.scopes import SCOPES
from system.services.gateway.openapi.parts import COUNT, ERROR, NAME, Operation, Schema, record, text

SCOPE: Schema = text(0, 200, f"^(({'|'.join(SCOPES)})( ({'|'.join(SCOPES)})){{0,8}})?$") | {
    "description": "scopes, separated by blanks; all if absent"}
GRANTS: Schema = {"oneOf": [
    record({"grant_type": {"const": "password"}, "username": NAME, "password": text(8, 128)}, {"scope": SCOPE}, closed=False),
    record({"grant_type": {"const": "refresh_token"}, "refresh_token": text(1, 256)}, {"scope": SCOPE}, closed=False),
]}
TOKENS = record(
    {"token_type": {"const": "bearer"}, "access_token": {"type": "string"}, "expires_in": COUNT, "scope": {"type": "string"}},
    {"refresh_token": {"type": "string"}})
ERRORS = ("invalid_request", "invalid_grant", "invalid_scope", "unsupported_grant_type")
REFUSED: Schema = {"allOf": [
    ERROR, record({"error": {"enum": list(ERRORS)}, "error_description": {"type": "string"}}, closed=False)]}

OPERATIONS: dict[str, Operation] = {
    "revoke": Operation(
        "Revoke an access token, or a refresh token with its whole sign-in",
        {200: record({"revoked": {"const": True}}), 400: REFUSED}, (),
        record({"token": text(1, 4096)}, {"token_type_hint": text(1, 40)}, closed=False), form=True),
    "token": Operation(
        "OAuth 2 tokens: password and refresh_token grants", {200: TOKENS, 400: REFUSED}, (), GRANTS, form=True),
}
