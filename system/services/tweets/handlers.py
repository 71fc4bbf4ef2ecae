"""Post, reply, delete and read tweets.

A post is acknowledged after three steps: its id is bound to the idempotency key (if one was sent), the tweet
and its outbox row are durable, and the author's own cached lists contain it. A repeat with the same key does
all three again with the same id, since each step is idempotent; it also publishes the event before it
responds.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from system.kernel import checkpoints, events, ids
from system.kernel.errors import Conflict, DeadlineExceeded, Forbidden, NotFound, Overloaded, StoreUnavailable, WrongInput
from system.kernel.events import Tweet
from system.kernel.http.asgi import Spent
from system.kernel.text import entities
from system.ports import Entry, Kind, ListPage, Ports
from system.services.shared.list_rebuild import CachedLists
from system.services.shared.paging import MAX_SPARSE_STEPS, Window
from system.services.shared.publisher import Publisher
from system.services.shared.read_through import Tweets, Usernames
from system.services.shared.visibility import Visibility
from system.services.tweets import policy

MENTIONED_S = 0.5        # seconds that a post waits for the ids of the users that it mentions
MENTIONS_AT_ONCE = 100   # rows of the first read of a page of mentions; each further read takes twice as many
MENTION_READS = 6        # maximum reads for one page, if the caller may not see many of the tweets


class IdSource:
    """Creates tweet ids with the worker number that this process has leased.

    `generator`: None while no number is leased.
    """

    def __init__(self) -> None:
        self.generator: ids.Generator | None = None

    async def next(self, deadline_ns: int) -> int:
        """Return a new id.

        Raises Overloaded (definite) if no number is leased, or if waiting for the clock would take too long.
        """
        if self.generator is None:
            raise Overloaded("This process holds no worker number yet; retry in a second.", retry_after_s=1.0)
        return await self.generator.next(deadline_ns)


@dataclass(frozen=True)
class UserPage:
    """A page of one author's tweets. `scanned`: lowest id scanned. `ended`: nothing older exists."""

    tweets: tuple[Tweet, ...]
    scanned: int
    ended: bool
    source: str


class TweetService:
    """Writes and reads tweets."""

    def __init__(self, ports: Ports, lists: CachedLists, reader: Tweets, publisher: Publisher, source: IdSource,
                 visibility: Visibility, usernames: Usernames) -> None:
        self._usernames = usernames
        self._store, self._cache, self._hot, self._log = ports.tweets, ports.timelines, ports.hot, ports.log
        self._keys, self._media = ports.keys, ports.media
        self._lists, self._reader, self._publisher, self._ids = lists, reader, publisher, source
        self._visibility = visibility

    # ---- write ---------------------------------------------------------------------------------------

    async def post(self, user_id: int, draft: policy.Draft, key: str, trace: str, deadline_ns: int) -> Tweet:
        """Create a tweet, once per idempotency key. `key`: "" for none.

        Raises Conflict (422) if the key was used with another body; WrongInput if the tweet that it replies
        to, or its media, are invalid.
        """
        parent = await self._parent(draft)
        tweet_id, existing, fresh = await self._ids.next(deadline_ns), None, True
        if key:
            tweet_id, fresh = await self._reserve(user_id, key, draft, tweet_id)
            existing = None if fresh else await self._one(tweet_id)
        visible = parent if parent is None or await self._sees(user_id, parent) else None
        if draft.in_reply_to is not None and not policy.may_reply(visible, existing is not None):
            raise WrongInput(f"The tweet {draft.in_reply_to} that this one replies to is deleted or does not exist; "
                             "leave `reply` out or name an existing tweet.")
        found = entities.entities(draft.text)
        tweet = policy.tweet(tweet_id, user_id, draft, parent, entities.pack(found, await self._mentioned(found)))
        if tweet.media_keys and existing is None:
            await self._attach(tweet)
        await checkpoints.reached("post.before_append", tweet_id=tweet_id)
        await self._append(tweet, trace, alone=not key)
        await checkpoints.reached("post.after_append", tweet_id=tweet_id)
        if existing is not None and existing.deleted:
            return tweet  # deleted since the first try: the response is the same, and the tweet stays deleted
        await self._add_own(Entry(tweet_id, user_id), deadline_ns)
        if not fresh:
            await self._log.publish([events.new_tweet(tweet, trace)])
        else:
            self._publisher.put(events.new_tweet(tweet, trace), tweet)
        return tweet

    async def _mentioned(self, found: Sequence[entities.Entity]) -> dict[str, int]:
        """Return the ids of the mentioned users. Without PostgreSQL the tweet is posted with their names alone."""
        names = entities.names_in(found)
        if not names:
            return {}
        try:
            async with asyncio.timeout(MENTIONED_S):
                return await self._usernames.ids_of(names)
        except (TimeoutError, StoreUnavailable):
            return {}

    async def _one(self, tweet_id: int) -> Tweet | None:
        return (await self._store.get([tweet_id])).get(tweet_id)

    async def _parent(self, draft: policy.Draft) -> Tweet | None:
        if draft.in_reply_to is None:
            return None
        return await self._one(draft.in_reply_to)

    async def _reserve(self, user_id: int, key: str, draft: policy.Draft, tweet_id: int) -> tuple[int, bool]:
        """Bind the key to `tweet_id`, unless an earlier try bound it to another id.

        Returns (bound id, whether this call bound it).
        """
        body_hash = policy.body_hash(draft)
        reservation = await self._keys.reserve(user_id, key, tweet_id, body_hash)
        await checkpoints.reached("post.after_reserve", tweet_id=reservation.tweet_id, fresh=reservation.fresh)
        if reservation.body_hash != body_hash:
            problem = Conflict(f"The Idempotency-Key {key[:40]!r} was used with another body; use a new key for a new tweet.")
            problem.status = 422
            raise problem
        return reservation.tweet_id, reservation.fresh

    async def _attach(self, tweet: Tweet) -> None:
        """Attach the media to the tweet, before the tweet is durable.

        Of two concurrent posts with the same picture, one is refused.
        """
        bad = await self._media.attach(tweet.author_id, tweet.media_keys, tweet.id)
        if bad:
            raise WrongInput(f"`media.media_ids` names {bad[0]}, which is not yours, not finalised, or belongs to another tweet; "
                             "use ids that were finalized.")
        await checkpoints.reached("post.after_attach", tweet_id=tweet.id)

    async def _append(self, tweet: Tweet, trace: str, alone: bool) -> None:
        """Make the tweet durable.

        `alone`: no other try can create this tweet, so its media are detached if the write certainly failed.
        Otherwise the tweet may exist, and the orphan collector of the media service checks whether it does.
        """
        try:
            await self._store.append(tweet, trace)
        except StoreUnavailable as problem:
            if problem.definite and alone and tweet.media_keys:
                await self._media.detach(tweet.media_keys, tweet.id)
            raise

    async def _add_own(self, entry: Entry, deadline_ns: int) -> None:
        """Add the tweet to its author's own lists.

        A failure is a 503 or 504 that is not definite: the tweet is durable.
        """
        left_s = (deadline_ns - time.monotonic_ns()) / 1e9
        try:
            async with asyncio.timeout(max(left_s, 0.0)):
                await self._cache.add_own(entry)
        except TimeoutError:
            raise DeadlineExceeded("The tweet is durable, but could not be added to the author's timeline in time.",
                                   definite=False) from None
        except StoreUnavailable:
            raise StoreUnavailable("The tweet is durable, but could not be added to the author's timeline; it may appear later.",
                                   definite=False) from None

    async def delete(self, user_id: int, tweet_id: int, trace: str) -> None:
        """Delete a tweet of the user. Safe to repeat.

        Raises NotFound if the user cannot see it, Forbidden if another user wrote it.
        """
        tweet = await self._one(tweet_id)
        if tweet is None or not await self._sees(user_id, tweet):
            raise NotFound(f"Could not find tweet with id: [{tweet_id}].")
        if tweet.author_id != user_id:
            raise Forbidden("Only its author may delete a tweet.")
        await self._store.delete(tweet_id, user_id, trace)
        await checkpoints.reached("delete.after_delete", tweet_id=tweet_id)
        # The event comes first: if Redis does not respond now, the fan-out worker removes the tweet when it
        # does.
        self._publisher.put(events.tweet_deleted(tweet_id, user_id, trace))
        if tweet.media_keys:  # no new links from now on; on the event the media service removes the files
            await self._media.condemn(tweet.media_keys)
        await self._hot.mark_deleted(tweet_id)
        await self._cache.remove_tweet(Entry(tweet_id, user_id), [user_id])

    # ---- read ----------------------------------------------------------------------------------------

    async def _sees(self, viewer_id: int, tweet: Tweet) -> bool:
        return bool(await self._visibility.visible(viewer_id, [tweet.author_id]))

    async def by_ids(self, viewer_id: int, tweet_ids: list[int], spent: Spent) -> dict[int, Tweet]:
        """Return the live tweets that the viewer may read; the others are treated as absent."""
        live = await self._reader.live(tweet_ids, spent)
        await checkpoints.reached("tweets.before_look", viewer=viewer_id)
        return await self._visibility.readable(viewer_id, live)

    async def mentions(self, viewer_id: int, user_id: int, window: Window, spent: Spent) -> UserPage:
        """Return a page of the tweets that mention a user, newest first: live ones that the viewer may read.

        A page may end short, or empty, after MENTION_READS reads; then it has not ended. Raises Forbidden if the
        viewer may not see the user.
        """
        tweets: list[Tweet] = []
        low = -1 if window.since_id is None else window.since_id
        before, ended = window.before, False
        for number in range(MENTION_READS):
            want = MENTIONS_AT_ONCE << number if number else max(window.limit, 1)
            start = time.perf_counter_ns()
            rows = await self._store.mentions(user_id, before, want)
            spent.since("cassandra", start)
            live = await self._reader.live([row.id for row in rows if row.id > low], spent)
            await checkpoints.reached("mentions.before_look", viewer=viewer_id)
            readable = await self._visibility.readable(viewer_id, live)
            for row in rows:
                if row.id in readable and len(tweets) < window.limit:
                    tweets.append(readable[row.id])
                    before = row.id
            full = len(tweets) == window.limit
            ended = not full and (len(rows) < want or rows[-1].id <= low + 1)
            if full or ended:
                break
            before = rows[-1].id
        await self._visibility.require(viewer_id, user_id)
        return UserPage(tuple(tweets), max(before or 0, low + 1), ended, "direct")

    async def of_user(self, viewer_id: int, author_id: int, window: Window, spent: Spent) -> UserPage:
        """Return a page of an author's tweets, newest first.

        Raises Forbidden if the viewer may not read them.
        """
        page = await self._of_user(author_id, window, spent)
        await checkpoints.reached("user_tweets.before_look", viewer=viewer_id)
        await self._visibility.require(viewer_id, author_id)
        return page

    async def _of_user(self, author_id: int, window: Window, spent: Spent) -> UserPage:
        """Fill a page until it is full or nothing older exists; without replies, MAX_SPARSE_STEPS reads at most."""
        tweets: list[Tweet] = []
        before, low = window.before, -1 if window.since_id is None else window.since_id
        source = "hit"
        for step in itertools.count(1):
            want = window.limit - len(tweets)
            entries, before, ended, step_source = await self._step(author_id, before, want, spent)
            source = step_source if source == "hit" else source
            entries = [entry for entry in entries if entry.id > low]
            live = await self._reader.live([entry.id for entry in entries], spent)
            shown = [live[entry.id] for entry in entries if entry.id in live]
            tweets.extend(tweet for tweet in shown if tweet.in_reply_to is None or not window.without_replies)
            ended = ended or before <= low + 1
            if ended or len(tweets) >= window.limit or (window.without_replies and step >= MAX_SPARSE_STEPS):
                return UserPage(tuple(tweets), max(before, low + 1), ended, source)
        raise AssertionError("unreachable")

    async def _step(self, author_id: int, before: int | None, want: int, spent: Spent) -> tuple[list[Entry], int, bool, str]:
        """Return (entries, `before` of the next step, whether nothing older exists, source)."""
        start = time.perf_counter_ns()
        page, built = await self._page(author_id, before, want)
        spent.since("redis", start)
        if page is not None and not (page.exhausted and page.floor > 0 and (before is not None and before <= page.floor)):
            if page.exhausted:
                return list(page.entries), page.floor, page.floor == 0, "rebuild" if built else "hit"
            return list(page.entries), page.scanned, False, "rebuild" if built else "hit"
        start = time.perf_counter_ns()
        rows = await self._lists.author_rows(author_id, before, want)
        spent.since("cassandra", start)
        ended = len(rows) < want
        return rows, 0 if ended else rows[-1].id, ended, "tail" if page is not None else "direct"

    async def _page(self, author_id: int, before: int | None, want: int) -> tuple[ListPage | None, bool]:
        try:
            page = await self._cache.page(Kind.AUTHOR, author_id, before, want)
            self._lists.count_lookups(Kind.AUTHOR, int(page is not None), int(page is None))
            if page is not None or not await self._lists.ensure(Kind.AUTHOR, author_id):
                return page, False
            return await self._cache.page(Kind.AUTHOR, author_id, before, want), True
        except StoreUnavailable:
            return None, False

