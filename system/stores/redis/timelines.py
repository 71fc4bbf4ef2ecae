"""TimelineCache on Redis: the lists of `redis/keys.md`, changed only by the scripts in `lua/`.

Most methods are one call of one script; for lists that may be long, the script is called in slices. Every
list contains a mark with the epoch of the Redis server that it was built on. Every script gets the epoch of
its connection, so a list of another server, or of this server before a restart, counts as absent.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable, Mapping, Sequence

from system.kernel.settings import Settings
from system.ports import IS_COMPLETE, Chunk, Entry, HomePage, Kind, ListPage
from system.stores.redis.base import Redis, clear
from system.stores.redis.link import Arg, Link

RECORD = struct.Struct(">QQ")  # tweet id, author id; see redis/keys.md
MEMBERS = 10_000  # users read from a set per call: a reply of 190 kB, about 2 ms of Redis CPU
STAGE = 4_000  # users written to a set per call; as many as a fan-out call handles by default
REMOVAL = 8  # a chunk of removals is this many times smaller than a chunk of pushes
USERS = (Kind.FOLLOWERS, Kind.FOLLOWING)  # lists of users; the other kinds are lists of tweets


class RedisTimelines(Redis):
    """The cached lists in Redis. One instance is shared by all tasks of an event loop."""

    def __init__(self, link: Link, settings: Settings) -> None:
        super().__init__(link, settings)
        self._cap = settings.policies.timeline.cap
        self._slack = settings.policies.timeline.trim_slack
        self._ttl_ms = max(1, round(settings.policies.timeline.building_ttl_s * 1000))
        self._chunk = settings.policies.fanout.chunk
        self._pulled: tuple[Sequence[int], tuple[str, ...]] = ((), ())

    async def epoch(self) -> str:
        return await self.link.epoch()

    # ---- reading

    async def home(self, user_id: int, pulled: Sequence[int], before: int | None, limit: int) -> HomePage:
        reply = await self.link.script("home", user_id, _bound(before), limit, *self._pulled_members(pulled))
        if reply[:1] == b"M":
            names = reply[1:].decode().split(",")
            missing = tuple((Kind(kind), int(owner)) for kind, _, owner in (name.partition(":") for name in names))
            return HomePage((), 0, 0, False, False, missing)
        floor, exhausted = int(reply[1:20]), reply[20:21] == b"1"
        entries = tuple([Entry(*pair) for pair in RECORD.iter_unpack(memoryview(reply)[22:])])
        return HomePage(entries, _scanned(entries, floor, exhausted, before), floor, exhausted, reply[21:22] == b"1")

    async def page(self, kind: Kind, owner: int, before: int | None, limit: int) -> ListPage | None:
        return (await self.pages(kind, [owner], before, limit)).get(owner)

    async def pages(self, kind: Kind, owners: Sequence[int], before: int | None, limit: int) -> dict[int, ListPage]:
        if not owners:
            return {}
        replies = await self.link.script("pages", _bound(before), limit, *[f"{kind.value}:{owner}" for owner in owners])
        pages = {}
        for owner, reply in zip(owners, replies, strict=True):
            if reply is not None:
                head, records = reply
                floor, exhausted = int(head[:19]), head[19:] == b"1"
                entries = tuple([Entry(*pair) for pair in RECORD.iter_unpack(records)][::-1])
                pages[owner] = ListPage(entries, _scanned(entries, floor, exhausted, before), floor, exhausted)
        return pages

    async def members(self, kind: Kind, owner: int) -> list[int] | None:
        users: list[int] = []
        token, after = None, b""
        while True:
            reply = await self.link.script("members", f"{kind.value}:{owner}", after, MEMBERS)
            if reply is None or (token is not None and reply[0] != token):
                return None  # dropped, or dropped and rebuilt, between two slices
            token, after, more, digits = reply
            users.extend([int(digits[i:i + 19]) for i in range(0, len(digits), 19)])
            if more == b"0":
                return users

    # ---- building

    async def begin(self, kind: Kind, owner: int) -> str | None:
        token = "~" + secrets.token_hex(8)[:15]
        is_users = "1" if kind in USERS else "0"
        state = await self.link.script("begin", f"{kind.value}:{owner}", is_users, token, self._ttl_ms)
        return {0: None, 1: token, 2: IS_COMPLETE}[int(state)]

    async def complete(self, kind: Kind, owner: int, token: str, entries: Iterable[Entry], floor: int) -> bool:
        key = f"{kind.value}:{owner}"
        if kind not in USERS:
            return bool(await self.link.script("complete_tweets", key, token, f"{floor:019d}", self._cap, packed(entries)))
        users = sorted({entry.id for entry in entries})
        parts = [users[i:i + STAGE] for i in range(0, len(users), STAGE)] or [[]]
        for number, part in enumerate(parts, start=1):
            last = "1" if number == len(parts) else "0"
            head = (key, token, f"{floor:019d}", self._ttl_ms, last)
            if not await self.link.script("complete_users", *head, *_scored(part)):
                return False
        return True

    # ---- adding

    async def push_chunk(self, author_id: int, entry: Entry, after: int, token: str | None) -> Chunk:
        record = RECORD.pack(entry.id, entry.author_id)
        return _chunk(await self.link.script(
            "push_chunk", author_id, record, self._cap, self._slack, _member(after), self._chunk, token or ""))

    async def push(self, entry: Entry, owners: Sequence[int]) -> tuple[int, int]:
        pushed = await self._push(entry, [f"h:{owner}" for owner in owners])
        return pushed, len(owners) - pushed

    async def add_own(self, entry: Entry) -> None:
        await self._push(entry, [f"h:{entry.author_id}", f"a:{entry.author_id}"])

    async def back_fill(self, user_id: int, entries: Sequence[Entry]) -> bool:
        return bool(await self.link.script("back_fill", f"h:{user_id}", self._cap, self._slack, packed(entries)))

    async def add_member(self, kind: Kind, owner: int, user_id: int) -> bool:
        return bool(await self.link.script("add_member", f"{kind.value}:{owner}", user_id, _member(user_id)))

    # ---- removing

    async def drop(self, lists: Sequence[tuple[Kind, int]]) -> None:
        if lists:
            await self.link.call("UNLINK", *[f"{self.link.prefix}{kind.value}:{owner}" for kind, owner in lists])

    async def remove_tweet(self, entry: Entry, owners: Sequence[int]) -> None:
        author = entry.author_id
        keys = [f"a:{author}", f"h:{author}", *[f"h:{owner}" for owner in owners]]
        await self.link.script("remove", entry.id.to_bytes(8), author, "-", 0, *keys)

    async def remove_tweet_chunk(self, author_id: int, entry: Entry, after: int) -> Chunk:
        # A removal rewrites the list, which costs about 8 times as much as a push. The chunk is that much
        # smaller, so that a call blocks readers no longer than a push does.
        count = max(1, self._chunk // REMOVAL)
        return _chunk(await self.link.script("remove", entry.id.to_bytes(8), author_id, _member(after), count))

    # ---- bulk: seeding, benchmarks, resets

    async def seed(self, kind: Kind, lists: Mapping[int, Sequence[Entry]], floor: int = 0) -> None:
        """Replace lists by complete ones with these entries, 200 commands per round trip. Safe to repeat.

        `floor`: the lists are complete down to this tweet id; 0 is without limit.
        """
        mark = f"C|{await self.epoch()}|{floor:019d}|~{'seed':->15}".encode()
        commands: list[tuple[Arg, ...]] = []
        for owner, entries in lists.items():
            key = f"{self.link.prefix}{kind.value}:{owner}"
            if kind in USERS:
                commands += [("DEL", key), ("ZADD", key, "+inf", mark, *_scored(sorted({e.id for e in entries})))]
            else:
                commands.append(("SET", key, mark + packed(entries)[-self._cap * RECORD.size:]))
            if len(commands) >= 200:
                await self.link.calls(commands)
                commands = []
        await self.link.calls(commands)

    async def clear(self) -> None:
        """Delete all lists of this namespace and nothing else."""
        await clear(self.link, "[hafg]:*")

    async def _push(self, entry: Entry, keys: Sequence[str]) -> int:
        record = RECORD.pack(entry.id, entry.author_id)
        return int(await self.link.script("push", record, self._cap, self._slack, *keys))

    def _pulled_members(self, pulled: Sequence[int]) -> tuple[str, ...]:
        # A process passes the same list for about `mode_ttl_s`, so its formatted ids are cached.
        if pulled != self._pulled[0]:
            self._pulled = (pulled, tuple(f"{author:019d}" for author in sorted(pulled)))
        return self._pulled[1]


def packed(entries: Iterable[Entry]) -> bytes:
    """Return entries in the format of a packed list: ascending by id, each id once."""
    authors = {entry.id: entry.author_id for entry in entries}
    flat = [number for tweet_id in sorted(authors) for number in (tweet_id, authors[tweet_id])]
    return struct.pack(f">{len(flat)}Q", *flat)


def _scored(users: Sequence[int]) -> list[Arg]:
    flat: list[Arg] = []
    for user in users:
        flat += (user, _member(user))
    return flat


def _member(user_id: int) -> str:
    """Return the set member for a user id; "" for 0: no user has id 0, so "after 0" means from the start."""
    return f"{user_id:019d}" if user_id else ""


def _bound(before: int | None) -> bytes:
    return b"" if before is None else min(before, 2**63 - 1).to_bytes(8)


def _scanned(entries: Sequence[Entry], floor: int, exhausted: bool, before: int | None) -> int:
    if not exhausted:
        return entries[-1].id
    return floor if before is None else min(floor, before)


def _chunk(reply: list[bytes]) -> Chunk:
    status, last, done, skipped, token = reply
    return Chunk(status.decode(), int(last or 0), int(done), int(skipped), token.decode())
