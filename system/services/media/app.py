"""The media service: `python -m system.services.media.app`.

It also removes orphans, and counts the look-ups of the edge cache.
"""

from __future__ import annotations

from system.kernel import events
from system.kernel.http import asgi
from system.kernel.http.asgi import Answer, Call
from system.kernel.settings import Settings
from system.ports import Medium, Ports, Record
from system.services.media import policy
from system.services.media.handlers import Media
from system.services.media.orphan_collector import Collector, count_edge
from system.services.media.stripping import ExifTool, require
from system.services.shared import consumer_loop, hosting
from system.services.shared.reads import Reads

NAME = "media"
NEEDS = ("blobs", "media", "edge", "users", "tweets", "log")
GROUP = "media"


class Routes:
    """HTTP in front of `Media`."""

    def __init__(self, media: Media) -> None:
        self._media = media

    def rows(self) -> list[asgi.Row]:
        """Return the table of routes."""
        return [
            ("POST", "/2/media/upload/initialize", self.initialize),
            ("POST", "/2/media/upload/{id}/finalize", self.finalize),
            ("GET", "/2/media/{id}", self.get),
            ("DELETE", "/2/media/{id}", self.delete),
        ]

    async def initialize(self, call: Call) -> Answer:
        """`POST /2/media/upload/initialize`"""
        user_id, key = call.user_id, policy.check_key(call.header("idempotency-key"))
        upload = await self._media.initialize(user_id, policy.wanted(await call.json()), key)
        body = {"id": upload.media_id, "media_key": upload.media_id, "expires_after_secs": upload.expires_s,
                "upload_url": upload.put.url, "upload_method": "PUT", "upload_headers": dict(upload.put.headers)}
        return Answer({"data": body}, 201)

    async def finalize(self, call: Call) -> Answer:
        """`POST /2/media/upload/{id}/finalize`"""
        return Answer({"data": _shape(await self._media.finalize(call.user_id, call.params["id"]))})

    async def get(self, call: Call) -> Answer:
        """`GET /2/media/{id}`"""
        medium, url = await self._media.show(call.user_id, call.params["id"])
        return Answer({"data": {**_shape(medium), "url": url, "expires_after_secs": self._media.link_s}})

    async def delete(self, call: Call) -> Answer:
        """`DELETE /2/media/{id}`"""
        await self._media.delete(call.user_id, call.params["id"])
        return Answer({"data": {"deleted": True}})


def _shape(medium: Medium) -> dict[str, object]:
    # Size and digest of what readers download; rows of older labs state only the declared size.
    return {"id": medium.id, "media_key": medium.id, "type": "photo", "size": medium.served_size or medium.size,
            "media_type": medium.content_type, "sha256": medium.sha256}


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Build the service on `ports`."""
    knobs = settings.policies.media
    stripper = ExifTool()
    media = Media(ports, Reads(ports, settings.policies).visibility, knobs.link_s, stripper)
    collector = Collector(ports, media, knobs, settings.instance)

    async def deleted(records: list[Record]) -> None:
        await collector.deleted(records, deletes.dead_letter)

    deletes = consumer_loop.Loop(ports.log, GROUP, (events.TWEET_DELETED,), consumer_loop.traced(deleted))

    async def count_lookups() -> None:
        await count_edge(settings.listen_host, settings.listen_port)

    async def check() -> None:
        require()

    loops = (deletes.run, collector.run, *((count_lookups,) if settings.edge_secret else ()))
    return hosting.Service(Routes(media).rows(), start=check, stop=stripper.close, loops=loops)


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
