"""Applies each event to the cached lists.

A handler does not rely on the state in the event: it reads the current tweet or follow edge and makes the
lists match. Every effect is idempotent, and the topics may be processed in any order:

| event | effect |
|---|---|
| new_tweet | tweet added to the author's own lists, then (push) to every live home timeline of a follower |
| | then the tweet is noted for the tweet that it replies to, and for each user that it mentions |
| tweet_deleted | the cached tweet is marked deleted, then the tweet is removed from all these lists and counts |
| new_follow, edge exists | followee added to `g:`, follower to `f:`, *then* the followee's tweets to `h:` |
| new_follow, edge does not exist | `h:` and `g:` of the follower and `f:` of the followee are deleted |

Keys (`stores/redis/keys.md`): `h:` home timeline, `g:` followed users, `f:` followers.
"""

from __future__ import annotations

from dataclasses import dataclass

from system.kernel import checkpoints, clock
from system.kernel.events import Event, Tweet, tweet_of
from system.kernel.policies import Policies
from system.kernel.text import entities
from system.ports import Chunk, Edge, Entry, Kind, Mode, Ports
from system.services.fanout import policy
from system.services.fanout.audience import Audience
from system.services.shared.list_rebuild import CachedLists
from system.services.shared.read_through import Usernames


@dataclass(frozen=True)
class Done:
    """What the handling of an event did.

    `applied`: whether it had an effect. `path`: how it was handled, as in the effect log. `targets`: number
    of live lists that were changed. `retries`: how often the handling restarted.
    """

    applied: bool
    path: str
    targets: int = 0
    retries: int = 0


class Fanout:
    """Handles the events of all topics of the group `fanout`."""

    def __init__(self, ports: Ports, lists: CachedLists, audience: Audience, policies: Policies, time_: clock.Clock) -> None:
        self._cache, self._hot, self._store, self._users = ports.timelines, ports.hot, ports.tweets, ports.users
        self._lists, self._audience, self._policies, self._clock = lists, audience, policies, time_
        self._usernames = Usernames(ports.users, ports.hot)

    # ---- new_tweet -----------------------------------------------------------------------------------

    async def new_tweet(self, event: Event) -> Done:
        """Deliver a tweet to its readers, unless it is already deleted."""
        tweet = tweet_of(event.payload)
        if not await self._is_live(tweet):
            return Done(False, "skip")
        entry = Entry(tweet.id, tweet.author_id)
        # Before the followers are read: a user that starts to follow later finds the tweet in the author's
        # list.
        await self._cache.add_own(entry)
        await checkpoints.reached("fanout.after_own", tweet_id=tweet.id)
        done = Done(True, policy.PULL) if await self._path(tweet) == policy.PULL else await self._push(entry)
        done = await self._unless_deleted(entry, done)
        if tweet.in_reply_to is not None:  # after the delivery, which must not wait for it
            await self._store.note_reply(tweet.in_reply_to, tweet.id, deleted=not done.applied)
        if done.applied:
            await self._note_mentions(tweet)
        return done

    async def _note_mentions(self, tweet: Tweet) -> None:
        """Note the tweet for the users that it mentions; after the delivery, which must not wait for it."""
        names = entities.mentioned(entities.of(tweet))
        if names:
            user_ids = await self._usernames.ids_of(names)
            await checkpoints.reached("fanout.before_mentions", tweet_id=tweet.id)
            await self._store.mention(tweet, sorted(user_ids.values()))

    async def _is_live(self, tweet: Tweet) -> bool:
        cached = await self._hot.get([tweet.id])
        if tweet.id in cached:
            return cached[tweet.id] is not None
        rows = await self._store.get([tweet.id])
        if tweet.id in rows:
            await self._hot.fill([rows[tweet.id]])
        return tweet.id in rows and not rows[tweet.id].deleted

    async def _unless_deleted(self, entry: Entry, done: Done) -> Done:
        """Return `done`; if the tweet was deleted during the delivery, remove it again."""
        if (await self._hot.get([entry.id])).get(entry.id, entry) is None:
            await self._remove(entry)
            return Done(False, "skip", retries=done.retries)
        return done

    async def _path(self, tweet: Tweet) -> str:
        """Decide push or pull. A change of the author's mode is stored first."""
        knobs = self._policies.fanout
        current = await self._audience.mode(tweet.author_id)
        audience = await self._audience.size(tweet.author_id)
        choice = policy.choose(audience, current, knobs, self._policies.timeline.mode_ttl_s, self._clock.wall_ms())
        if choice.change_to is not None:
            await self._users.set_mode(tweet.author_id, Mode(choice.change_to), tweet.id)
            self._audience.expire_modes()
        await checkpoints.reached("fanout.after_mode", author_id=tweet.author_id, path=choice.path)
        return choice.path

    async def _push(self, entry: Entry) -> Done:
        after, token, pushed, handled, retries = 0, None, 0, 0, 0
        while True:
            chunk = await self._cache.push_chunk(entry.author_id, entry, after, token)
            if not after:
                self._lists.count_lookups(Kind.FOLLOWERS, int(chunk.status != "absent"), int(chunk.status == "absent"))
            if chunk.status in ("absent", "changed"):
                retries += 1
                if retries > policy.MAX_RESTARTS or not await self._list_exists(entry.author_id, chunk):
                    return await self._push_from_postgres(entry, retries)
                after, token, pushed, handled = 0, None, 0, 0
                continue
            after, token = chunk.last, chunk.token
            pushed, handled = pushed + chunk.pushed, handled + chunk.pushed + chunk.skipped
            if chunk.status == "done":
                self._audience.record_size(entry.author_id, handled)
                return Done(True, policy.PUSH, pushed, retries)
            await checkpoints.reached("fanout.between_chunks", author_id=entry.author_id, after=after)

    async def _list_exists(self, author_id: int, chunk: Chunk) -> bool:
        return chunk.status == "changed" or await self._lists.ensure(Kind.FOLLOWERS, author_id)

    async def _push_from_postgres(self, entry: Entry, retries: int) -> Done:
        """Push to the followers that PostgreSQL returns.

        Used if another process is rebuilding the follower list, or if the list changes too often.
        """
        followers = await self._lists.all_followers(entry.author_id)
        await checkpoints.reached("fanout.truth.after_read", author_id=entry.author_id)
        size, pushed = self._policies.fanout.chunk, 0
        for start in range(0, len(followers), size):
            pushed += (await self._cache.push(entry, followers[start : start + size]))[0]
        self._audience.record_size(entry.author_id, len(followers))
        return Done(True, policy.PUSH, pushed, retries)

    # ---- tweet_deleted -------------------------------------------------------------------------------

    async def tweet_deleted(self, event: Event) -> Done:
        """Hide the tweet, then remove its id from every list.

        The id can never return, so entries can be removed one by one.
        """
        entry = Entry(int(event.payload["id"]), int(event.payload["author_id"]))
        await self._hot.mark_deleted(entry.id)
        await checkpoints.reached("fanout.after_marker", tweet_id=entry.id)
        done = Done(True, "remove", await self._remove(entry))
        tweet = (await self._store.get([entry.id])).get(entry.id)
        if tweet is not None and tweet.in_reply_to is not None:
            await self._store.note_reply(tweet.in_reply_to, tweet.id, deleted=True)
        return done

    async def _remove(self, entry: Entry) -> int:
        await self._cache.remove_tweet(entry, [entry.author_id])
        after, handled = 0, 0
        for _ in range(policy.MAX_RESTARTS):
            chunk = await self._cache.remove_tweet_chunk(entry.author_id, entry, after)
            while chunk.status == "more":
                after, handled = chunk.last, handled + chunk.pushed
                chunk = await self._cache.remove_tweet_chunk(entry.author_id, entry, after)
            if chunk.status == "done":
                return handled + chunk.pushed
            if not await self._list_exists(entry.author_id, chunk):
                break
        followers = await self._lists.all_followers(entry.author_id)
        size = self._policies.fanout.chunk
        for start in range(0, len(followers), size):
            await self._cache.remove_tweet(entry, followers[start : start + size])
        return len(followers)

    # ---- new_follow ----------------------------------------------------------------------------------

    async def new_follow(self, event: Event) -> Done:
        """Make the lists match the current edge, and again if the edge has changed in the meantime."""
        follower, followee = int(event.payload["follower_id"]), int(event.payload["followee_id"])
        edge = await self._users.edge(follower, followee)
        for restarts in range(policy.MAX_RESTARTS):
            await checkpoints.reached("follow.after_edge", following=edge.following, version=edge.version)
            done = await (self._followed(edge) if edge.following else self._unfollowed(edge))
            current = await self._users.edge(follower, followee)
            if current.version == edge.version:
                return Done(done.applied, done.path, done.targets, restarts)
            edge = current
        # The edge changes faster than the lists can follow. Delete them: an absent list is always correct,
        # since it is rebuilt from the durable stores.
        done = await self._unfollowed(edge)
        return Done(done.applied, done.path, done.targets, policy.MAX_RESTARTS)

    async def _followed(self, edge: Edge) -> Done:
        # Both lists change before Cassandra is read: tweets posted from now on are pushed to this follower,
        # and older tweets are in what is read.
        await self._cache.add_member(Kind.FOLLOWERS, edge.followee_id, edge.follower_id)
        await self._cache.add_member(Kind.FOLLOWING, edge.follower_id, edge.followee_id)
        await checkpoints.reached("follow.before_read", follower=edge.follower_id, followee=edge.followee_id)
        knobs = self._policies.timeline
        rows = await self._store.by_author(edge.followee_id, None, policy.back_fill_limit(knobs.cap, knobs.trim_slack))
        await checkpoints.reached("follow.after_read", follower=edge.follower_id, followee=edge.followee_id)
        entries = [Entry(row.id, row.author_id) for row in rows if not row.deleted]
        filled = await self._cache.back_fill(edge.follower_id, entries)
        return Done(filled, "back_fill", int(filled))

    async def _unfollowed(self, edge: Edge) -> Done:
        await self._cache.drop([
            (Kind.HOME, edge.follower_id), (Kind.FOLLOWING, edge.follower_id), (Kind.FOLLOWERS, edge.followee_id),
        ])
        return Done(True, "purge", 1)
