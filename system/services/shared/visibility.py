"""Which authors a viewer may read: public authors, themselves, and protected authors who approved them.

Two parts, because they are read at different rates:

* *Which authors are protected* is cached in this process and at most `ttl_s` old, counted from the start of the
  read. A switch to protected is acknowledged only after `ttl_s`, so a read after the acknowledgement never uses
  an older set. A page without protected authors costs one set intersection.
* *Which viewers are approved* is read from PostgreSQL whenever a page contains a protected author: a removed
  follower, or one whose request is refused, loses access as soon as that is acknowledged.

Callers check **after** they have read the content, right before they return it. If they checked first, a
tweet posted in between would leak: check (still public), switch acknowledged, tweet posted, tweet read, tweet
returned.

Fails closed: if PostgreSQL does not respond and the cached set has expired, StoreUnavailable is raised and
nothing is returned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from system.kernel import checkpoints
from system.kernel.errors import Forbidden
from system.kernel.events import Tweet
from system.ports import UserDirectory
from system.services.shared.ttl_value import TtlValue

Key = TypeVar("Key")


class Visibility:
    """Decides for one process which authors a viewer may read.

    `ttl_s`: `policies.cache.privacy_ttl_s`, the same in every process of the lab.
    """

    def __init__(self, users: UserDirectory, ttl_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._version = -1
        self._protected: frozenset[int] = frozenset()
        self._protected_users = TtlValue(self._read, self._protected, "The set of protected users", ttl_s, now)

    async def visible(self, viewer_id: int, author_ids: Iterable[int]) -> set[int]:
        """Return the subset of `author_ids` whose tweets the viewer may read.

        Raises StoreUnavailable (definite).
        """
        wanted = set(author_ids)
        guarded = wanted & await self._protected_users.get()
        guarded.discard(viewer_id)
        if not guarded:
            return wanted
        approved = await self._users.follows(viewer_id, sorted(guarded))
        await checkpoints.reached("visibility.after_look", viewer=viewer_id)
        return wanted - guarded | approved

    async def hidden_from(self, viewer_id: int) -> frozenset[int]:
        """Return all authors whose tweets the viewer may not read, as of at most `ttl_s` ago.

        Raises StoreUnavailable (definite).

        For filters inside a store query; results must still pass `visible`.
        """
        guarded = await self._protected_users.get() - {viewer_id}
        return guarded - await self._users.follows(viewer_id, sorted(guarded)) if guarded else guarded

    async def require(self, viewer_id: int, user_id: int) -> None:
        """Raise Forbidden if the viewer may not see the tweets, likes and followed users of this user."""
        if user_id not in await self.visible(viewer_id, [user_id]):
            raise Forbidden(f"Not authorized to see the user with id: [{user_id}]. The account is protected; only approved "
                            "followers see it.")

    async def readable(self, viewer_id: int, tweets: Mapping[Key, Tweet]) -> dict[Key, Tweet]:
        """Return the subset of `tweets` that the viewer may read, in their order."""
        if not tweets:
            return {}
        allowed = await self.visible(viewer_id, {tweet.author_id for tweet in tweets.values()})
        return {key: tweet for key, tweet in tweets.items() if tweet.author_id in allowed}

    async def _read(self) -> frozenset[int]:
        changed = await self._users.protected_users(self._version)
        if changed is not None:
            self._version, self._protected = changed.version, changed.ids
        return self._protected
