"""`includes.media`: the pictures of tweets, each with a signed link, for `expansions=attachments.media_keys`.

A viewer who may read a tweet may see its pictures, so callers pass only tweets that the viewer may read.
Deleted pictures are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from system.kernel import cdn_links
from system.kernel.events import Tweet
from system.ports import MediaState, Medium, Ports
from system.services.shared.shapes import MEDIA_EXPANSION, Json


class MediaIncludes:
    """Media of tweets over the ports `media` and `edge`. `link_s`: seconds for which a link is valid."""

    def __init__(self, ports: Ports, link_s: int) -> None:
        self._media, self._edge, self._link_s = ports.media, ports.edge, link_s

    async def include(self, body: Json, query: Mapping[str, str], tweets: Iterable[Tweet]) -> None:
        """Add `includes.media` to a response body if the query asks for it and the tweets have pictures."""
        if MEDIA_EXPANSION not in query.get("expansions", "").split(","):
            return
        keys = list(dict.fromkeys(key for tweet in tweets for key in tweet.media_keys))
        media = await self._media.get(keys) if keys else {}
        shapes = [self._shape(media[key]) for key in keys if key in media and media[key].state is MediaState.ATTACHED]
        if shapes:
            body.setdefault("includes", {})["media"] = shapes

    def _shape(self, medium: Medium) -> Json:
        return {"media_key": medium.id, "type": "photo", "url": self._edge.link(cdn_links.object_key(medium.id), self._link_s)}
