"""Like, unlike, liking users, liked tweets, and the recount that follows each change.

Protected users: a tweet that the caller may not see is treated as absent. Of the users that like a tweet, the
caller sees only those whose likes they may see; the count identifies no user, so it counts all.
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
    """Liking users, ids ascending. `next_after`: where the next page starts, None at the end."""

    users: tuple[User, ...]
    next_after: int | None


@dataclass(frozen=True)
class TweetPage:
    """Liked tweets, newest first. `next_before`: where the next page starts, None at the end."""

    tweets: tuple[Tweet, ...]
    next_before: int | None


class LikeService:
    """Likes over the ports."""

    def __init__(self, likes: LikeStore, users: UserDirectory, tweets: Tweets, visibility: Visibility) -> None:
        self._likes, self._users, self._tweets, self._visibility = likes, users, tweets, visibility

    async def like(self, caller: int, user_id: int, tweet_id: int, trace: str, key: str, spent: Spent) -> Like:
        """Like a tweet.

        Safe to repeat. Raises Forbidden for another user's likes, NotFound if the caller sees no such tweet.
        """
        _require_self(caller, user_id)
        await self._require_visible(caller, tweet_id, spent)
        await checkpoints.reached("like.before_row", tweet_id=tweet_id)
        start = time.perf_counter_ns()
        like = await self._likes.like(user_id, tweet_id, trace, key)
        spent.since("postgres", start)
        return like

    async def unlike(self, caller: int, user_id: int, tweet_id: int, trace: str) -> Like:
        """Remove a like, whether or not the tweet still exists or is visible.

        Safe to repeat. Raises Forbidden.
        """
        _require_self(caller, user_id)
        return await self._likes.unlike(user_id, tweet_id, trace)

    async def liking_users(self, caller: int, tweet_id: int, request: policy.PageRequest, spent: Spent) -> UserPage:
        """Return the users that like a tweet, ids ascending, as far as the caller may see them.

        Raises NotFound.

        Users that the caller may not see are left out in the store's query, so no cursor names one; a user
        that became hidden a moment ago is filtered afterwards, and then a page is short.
        """
        after = -1 if request.cursor is None else request.cursor
        hidden = await self._visibility.hidden_from(caller)
        user_ids = await self._likes.liking_users(tweet_id, after, request.limit + 1, hidden)
        allowed = await self._visibility.visible(caller, user_ids)
        shown = [user for user in user_ids[:request.limit] if user in allowed]
        await self._require_visible(caller, tweet_id, spent)  # after the read
        users = await self._users.by_id(shown) if shown else {}
        more = len(user_ids) > request.limit and bool(shown)
        return UserPage(tuple(users[user] for user in shown if user in users), shown[-1] if more else None)

    async def liked_tweets(self, caller: int, user_id: int, request: policy.PageRequest, spent: Spent) -> TweetPage:
        """Return the tweets that a user likes, newest first, as far as the caller may see.

        Raises Forbidden on a protected user.

        A page has a next one if that shows something. If hundreds in a row are hidden or deleted it may be
        short, and then its cursor names one of those.
        """
        tweets: dict[int, Tweet] = {}
        before = request.cursor
        for want in policy.round_sizes(request.limit):
            tweet_ids = await self._likes.liked_tweets(user_id, before, want)
            live = await self._tweets.live(tweet_ids, spent)
            tweets |= await self._visibility.readable(caller, {key: live[key] for key in tweet_ids if key in live})
            before, more = tweet_ids[-1] if tweet_ids else before, len(tweet_ids) == want
            if len(tweets) > request.limit or not more:
                break
        await self._visibility.require(caller, user_id)
        shown, end = policy.page_end(list(tweets), request.limit, before, more)
        return TweetPage(tuple(tweets[key] for key in shown), end)

    async def _require_visible(self, caller: int, tweet_id: int, spent: Spent) -> Tweet:
        readable = await self._visibility.readable(caller, await self._tweets.live([tweet_id], spent))
        if tweet_id not in readable:
            raise NotFound(f"Could not find tweet with id: [{tweet_id}].")
        return readable[tweet_id]


def _require_self(caller: int, user_id: int) -> None:
    if caller != user_id:
        raise Forbidden(f"The token is of user {caller}; only user {user_id} may change these likes.")


class Counter:
    """Recounts likes and sets the cached counts.

    Safe to repeat, in any order, from any number of processes.
    """

    def __init__(self, likes: LikeStore, counts: LikeCounts) -> None:
        self._likes, self._counts = likes, counts

    async def recount(self, tweet_ids: list[int]) -> int:
        """Bring the cached counts of these tweets up to date.

        Return how many were set. Raises StoreUnavailable.
        """
        done = 0
        for batch in policy.recounts(tweet_ids):
            counted = await self._likes.counts(batch)
            await checkpoints.reached("recount.after_read", ids=tuple(batch))
            done += await self._counts.put(counted)
        return done


def tweet_id_of(event: Event) -> int:
    """Return the id of the tweet that a new_like event names."""
    return int(event.payload["tweet_id"])
