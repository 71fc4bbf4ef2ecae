"""Like, take a like back, who likes, what is liked; and the recount that follows each change.

Protected users: a tweet that the caller may not see is to him as if it did not exist. Among the likers of a tweet he sees only
those whose likes he may see; the count names nobody, so it counts all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from system.kernel import checkpoints
from system.kernel.errors import Forbidden, NotFound
from system.kernel.events import Event, Tweet
from system.kernel.http.asgi import Spent
from system.ports import Like, LikeCounts, LikeStore, User, UserDirectory
from system.services.likes import policy
from system.services.shared.read_through import Tweets
from system.services.shared.visibility import Visibility


@dataclass(frozen=True)
class UserPage:
    """Likers, by id. `next_after`: where the next page begins, None at the end."""

    users: tuple[User, ...]
    next_after: int | None


@dataclass(frozen=True)
class TweetPage:
    """Liked tweets, newest first. `next_before`: where the next page begins, None at the end."""

    tweets: tuple[Tweet, ...]
    next_before: int | None


class LikeService:
    """Likes over the ports."""

    def __init__(self, likes: LikeStore, users: UserDirectory, tweets: Tweets, visibility: Visibility) -> None:
        self._likes, self._users, self._tweets, self._visibility = likes, users, tweets, visibility

    async def like(self, caller: int, user_id: int, tweet_id: int, trace: str, key: str, spent: Spent) -> Like:
        """Like a tweet. Safe to repeat. Raises Forbidden for another's likes, NotFound where the caller sees no such tweet."""
        _own(caller, user_id)
        await self._seen(caller, tweet_id, spent)
        await checkpoints.reached("like.before_row", tweet_id=tweet_id)
        start = time.perf_counter_ns()
        like = await self._likes.like(user_id, tweet_id, trace, key)
        spent.since("postgres", start)
        return like

    async def unlike(self, caller: int, user_id: int, tweet_id: int, trace: str) -> Like:
        """Take a like back, whether or not the tweet still stands or shows. Safe to repeat. Raises Forbidden."""
        _own(caller, user_id)
        return await self._likes.unlike(user_id, tweet_id, trace)

    async def liking_users(self, caller: int, tweet_id: int, asked: policy.Asked, spent: Spent) -> UserPage:
        """Return who likes a tweet, ids ascending, as far as the caller may know. Raises NotFound.

        Whom he may not see is left out where the ids are read, so no cursor names one; who became hidden a moment ago is
        left out after it, and then a page is short.
        """
        after = -1 if asked.cursor is None else asked.cursor
        hidden = await self._visibility.hidden_from(caller)
        part = await self._likes.liking_users(tweet_id, after, asked.limit + 1, hidden)
        allowed = await self._visibility.visible(caller, part)
        found = [user for user in part[:asked.limit] if user in allowed]
        await self._seen(caller, tweet_id, spent)  # after the read
        users = await self._users.by_id(found) if found else {}
        more = len(part) > asked.limit and bool(found)
        return UserPage(tuple(users[user] for user in found if user in users), found[-1] if more else None)

    async def liked_tweets(self, caller: int, user_id: int, asked: policy.Asked, spent: Spent) -> TweetPage:
        """Return what a user likes, newest tweet first, as far as the caller may see. Raises Forbidden on a protected user.

        A page has a next one where that shows something. Where hundreds in a row are hidden or deleted it may be short, and
        then its end names one of those.
        """
        found: dict[int, Tweet] = {}
        before = asked.cursor
        for want in policy.rounds(asked.limit):
            part = await self._likes.liked_tweets(user_id, before, want)
            live = await self._tweets.live(part, spent)
            found |= await self._visibility.readable(caller, {key: live[key] for key in part if key in live})
            before, more = part[-1] if part else before, len(part) == want
            if len(found) > asked.limit or not more:
                break
        await self._visibility.require(caller, user_id)
        taken, end = policy.ended(list(found), asked.limit, before, more)
        return TweetPage(tuple(found[key] for key in taken), end)

    async def _seen(self, caller: int, tweet_id: int, spent: Spent) -> Tweet:
        seen = await self._visibility.readable(caller, await self._tweets.live([tweet_id], spent))
        if tweet_id not in seen:
            raise NotFound(f"Could not find tweet with id: [{tweet_id}].")
        return seen[tweet_id]


def _own(caller: int, user_id: int) -> None:
    if caller != user_id:
        raise Forbidden(f"The token is of user {caller}; only user {user_id} may change what he likes.")


class Counter:
    """Counts tweets again and sets what it counted. Safe to repeat, in any order, from any number of processes."""

    def __init__(self, likes: LikeStore, counts: LikeCounts) -> None:
        self._likes, self._counts = likes, counts

    async def recount(self, tweet_ids: list[int]) -> int:
        """Bring the cached counts of these tweets up to date. Return how many were set. Raises StoreUnavailable."""
        done = 0
        for batch in policy.recounts(tweet_ids):
            counted = await self._likes.counts(batch)
            await checkpoints.reached("recount.after_read", ids=tuple(batch))
            done += await self._counts.put(counted)
        return done


def tweet_id_of(event: Event) -> int:
    """Return the tweet that a new_like event is about."""
    return int(event.payload["tweet_id"])
