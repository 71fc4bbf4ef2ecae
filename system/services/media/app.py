"""The media service: `python -m system.services.media.app`."""

from __future__ import annotations

from system.kernel import http
from system.kernel.http import Answer, Call
from system.kernel.settings import Settings
from system.ports import Ports
from system.services.media import policy
from system.services.media.handlers import Media
from system.services.shared import hosting

NAME = "media"
NEEDS = ("blobs",)


class Routes:
    """HTTP in front of `Media`."""

    def __init__(self, media: Media) -> None:
        self._media = media

    def rows(self) -> list[http.Row]:
        """Return the table of routes."""
        return [
            ("POST", "/2/media/upload/initialize", self.initialize),
            ("POST", "/2/media/upload/{id}/finalize", self.finalize),
            ("GET", "/2/media/{id}", self.get),
        ]

    async def initialize(self, call: Call) -> Answer:
        """`POST /2/media/upload/initialize`"""
        user_id = call.user_id
        content_type, _ = policy.wanted(await call.json())
        upload = self._media.initialize(user_id, content_type)
        body = {"id": upload.media_id, "media_key": upload.media_id, "expires_after_secs": upload.expires_s,
                "upload_url": upload.url, "upload_method": "PUT", "upload_headers": {"content-type": content_type}}
        return Answer({"data": body}, 201)

    async def finalize(self, call: Call) -> Answer:
        """`POST /2/media/upload/{id}/finalize`"""
        blob = await self._media.finalize(call.user_id, call.params["id"])
        return Answer({"data": _shape(call.params["id"], blob.size, blob.content_type)})

    async def get(self, call: Call) -> Answer:
        """`GET /2/media/{id}`"""
        _ = call.user_id
        url, blob = await self._media.url(call.params["id"])
        shape = _shape(call.params["id"], blob.size, blob.content_type)
        return Answer({"data": {**shape, "url": url, "expires_after_secs": policy.GET_LIFE_S}})


def _shape(media_id: str, size: int, content_type: str) -> dict[str, object]:
    return {"id": media_id, "media_key": media_id, "size": size, "media_type": content_type}


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Put the service together on `ports`."""
    return hosting.Service(Routes(Media(ports.blobs)).rows())


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
