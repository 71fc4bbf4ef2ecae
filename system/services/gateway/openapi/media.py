"""Parameters and responses of the routes of media."""

from __future__ import annotations

from system.services.gateway.openapi.parts import COUNT, KEY, Operation, data, record, text, whole

MEDIA_ID = text(3, 39, "^[0-9]{1,19}_[0-9]{1,19}$")
TYPES = {"type": "string", "enum": ["image/gif", "image/jpeg", "image/png", "image/webp"]}
SHA256 = text(64, 64, "^[0-9a-f]{64}$")
HEADERS = {"type": "object", "additionalProperties": {"type": "string"}}
MEDIUM = {"id": MEDIA_ID, "media_key": MEDIA_ID, "size": COUNT, "media_type": TYPES, "type": {"const": "photo"},
          "sha256": SHA256}

OPERATIONS: dict[str, Operation] = {
    "media": Operation(
        "A picture, with a signed URL to read it",
        {200: data(record({**MEDIUM, "url": {"type": "string"}, "expires_after_secs": COUNT}))},
        path={"id": MEDIA_ID}),
    "media_delete": Operation(
        "Delete a picture of the caller", {200: data(record({"deleted": {"type": "boolean"}}))}, path={"id": MEDIA_ID}),
    "media_finalize": Operation(
        "Finish the upload after the bytes were PUT", {200: data(record(MEDIUM))}, (KEY,), path={"id": MEDIA_ID}),
    "media_initialize": Operation(
        "Start an upload: get a signed URL to PUT a picture to",
        {201: data(record({
            "id": MEDIA_ID, "media_key": MEDIA_ID, "expires_after_secs": COUNT, "upload_url": {"type": "string"},
            "upload_method": {"const": "PUT"}, "upload_headers": HEADERS}))},
        (KEY,), record({"media_type": TYPES, "total_bytes": whole(1, 5 * 1024 * 1024)}, {
            "sha256": SHA256, "media_category": {"type": "string", "enum": ["tweet_image", "tweet_gif"]}})),
}
