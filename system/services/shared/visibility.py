"""Whose tweets a reader may see: of public authors, his own, and of protected authors who approved him.

Two parts, because they are asked differently often:

* *Who is protected* is a view of this process, at most `ttl_s` old, counted from the begin of its read. A switch to
  protected is acknowledged only after `ttl_s`, so whoever reads after the acknowledgement has no older view. A page
  without protected authors costs one look into a set.
* *Who is approved* is read from PostgreSQL each time a page holds a protected author: a removed follower or a refused
  request loses access with the acknowledgement.

Look **after** the content was read, right before it is shown. Looked before, a tweet posted in between would slip through:
look (still public), switch acknowledged, tweet posted, tweet read, tweet shown.

Fails closed: where PostgreSQL does not answer and the view expired, StoreUnavailable is raised and nothing is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from system.kernel import checkpoints
from system.kernel.errors import Forbidden
from system.kernel.events import Tweet
from system.ports import UserDirectory
from system.services.shared.ttl_value import View

Key = TypeVar("Key")


class Visibility:
    """The rule for one process. `ttl_s`: `policies.cache.privacy_ttl_s`, the same in every process of the lab."""

    def __init__(self, users: UserDirectory, ttl_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._version = -1
        self._protected: frozenset[int] = frozenset()
        self._view = View(self._read, self._protected, "Who is protected", ttl_s, now)

    async def visible(self, viewer_id: int, author_ids: Iterable[int]) -> set[int]:
        """Return those of `author_ids` whose tweets the viewer may read. Raises StoreUnavailable (definite)."""
        wanted = set(author_ids)
        guarded = wanted & await self._view.get()
        guarded.discard(viewer_id)
        if not guarded:
            return wanted
        approved = await self._users.follows(viewer_id, sorted(guarded))
        await checkpoints.reached("visibility.after_look", viewer=viewer_id)
        return wanted - guarded | approved

    async def hidden_from(self, viewer_id: int) -> frozenset[int]:
        """Return all whose tweets the viewer may not read, as they stood at most `ttl_s` ago. Raises StoreUnavailable (definite).

        For who asks a store to leave them out; what that returns is still looked at by `visible`.
        """
        guarded = await self._view.get() - {viewer_id}
        return guarded - await self._users.follows(viewer_id, sorted(guarded)) if guarded else guarded

    async def require(self, viewer_id: int, user_id: int) -> None:
        """Raise Forbidden where the viewer may not see what this user posts, likes or whom he follows."""
        if user_id not in await self.visible(viewer_id, [user_id]):
            raise Forbidden(f"Not authorized to see the user with id: [{user_id}]. The account is protected; only followers "
                            "that were approved see it.")

    async def readable(self, viewer_id: int, tweets: Mapping[Key, Tweet]) -> dict[Key, Tweet]:
        """Return those of `tweets` that the viewer may read, in their order."""
        if not tweets:
            return {}
        allowed = await self.visible(viewer_id, {tweet.author_id for tweet in tweets.values()})
        return {key: tweet for key, tweet in tweets.items() if tweet.author_id in allowed}

    async def _read(self) -> frozenset[int]:
        found = await self._users.protected_users(self._version)
        if found is not None:
            self._version, self._protected = found.version, found.ids
        return self._protected
