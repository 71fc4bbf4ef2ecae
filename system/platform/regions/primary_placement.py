"""Lets the primaries of a lab in regions stand together: PostgreSQL's follows the cache's, whose region is the active one.

Who is primary is decided elsewhere: sentinels choose the cache's, Patroni PostgreSQL's, and each survives the loss of a region by
itself. But they may end in two regions, or in the witness, and then each statement crosses the WAN. So once both are calm Patroni
is asked for a switchover, to a member that may lead without a loss: its synchronous standby. Writes wait for 2 to 4 s meanwhile.
Where another member is the synchronous standby, as after a start on old data, there are two of them until the primary has moved.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from system.kernel import wan
from system.platform.process.children import Child
from system.platform.servers import patroni, sentinel

EVERY_S = 3.0
CALM_LOOKS = 3     # with one and the same wish before it is acted on: a failover takes less
COOL_DOWN_S = 30.0  # after a switchover
MAX_LAG_BYTES = 2**20  # of a member that is to be synchronous: commits wait until it has caught up
ASK_TIMEOUT_S = 2.0
SWITCH_TIMEOUT_S = 20.0

_log = logging.getLogger("tweetlab")


@dataclass(frozen=True)
class Member:
    """One member of PostgreSQL, as Patroni tells it. `role`: leader, sync_standby or replica. `host`: of its REST API.

    `lag`: bytes that it has not replayed, None where that is not known.
    """

    name: str
    role: str
    state: str
    host: str = ""
    lag: int | None = None


def _leader(members: Sequence[Member]) -> Member | None:
    return next((each for each in members if each.role == "leader" and each.state == "running"), None)


def wanted(members: Sequence[Member], regions: Mapping[str, int], active: int) -> str:
    """Return the member that should lead instead of the one that does; "" where nothing is to be moved, or may be now.

    `regions`: of each member. `active`: the cache's primary's, 0 where it is not known.
    """
    leader = _leader(members)
    if leader is None or not active or regions.get(leader.name) == active:
        return ""
    ready = [each.name for each in members if each.role == "sync_standby" and each.state in ("streaming", "running")]
    return next((name for name in ready if regions.get(name) == active), "")


def standbys(members: Sequence[Member], regions: Mapping[str, int], active: int) -> int:
    """Return how many synchronous standbys there should be from now on; 0 where their number is right, or may not change now.

    Two, where the primary belongs to a member that streams without being one of them; one again when it is there.
    """
    leader = _leader(members)
    synchronous = [each for each in members if each.role == "sync_standby"]
    if leader is None or not active or not synchronous:
        return 0
    if regions.get(leader.name) == active:
        return 1 if len(synchronous) > 1 else 0
    there = next((each for each in members if regions.get(each.name) == active and each.role == "replica"), None)
    caught_up = there is not None and there.lag is not None and there.lag <= MAX_LAG_BYTES
    return 2 if there and caught_up and there.state in ("streaming", "running") else 0


def agreed(views: Sequence[Sequence[Member]], many: int) -> list[Member]:
    """Return a view whose leader more than half of `many` members name; [] where there is none: one that is cut off errs."""
    leaders = [next((each.name for each in view if each.role == "leader"), "") for view in views]
    return next((list(view) for view, leader in zip(views, leaders) if leader and leaders.count(leader) > many / 2), [])


class PrimaryPlacement:
    """Looks at one lab again and again. `children`: of its supervisor."""

    def __init__(self, children: Mapping[str, Child]) -> None:
        self._children = children
        self._wish, self._looks, self._free_s = "", 0, 0.0
        self._many, self._many_looks = 0, 0

    async def run(self) -> None:
        """Look every EVERY_S, until cancelled. What goes wrong is told in the log; a lab without regions is left alone."""
        while True:
            await asyncio.sleep(EVERY_S)
            if not any(child.node.role == "network" for child in self._children.values()):
                continue
            try:
                await self.look()
            except Exception as problem:  # nobody else moves it; the next look may find all well
                _log.warning("placement: %s", problem)

    async def look(self) -> str:
        """Look once, and act where the same was to be done before; return who was made primary, "" for nobody."""
        members, active = await asyncio.gather(self._members(), self._active())
        regions = {child.node.name: child.node.region for child in self._of("postgres")}
        await self._count(members, standbys(members, regions, active))
        wish = wanted(members, regions, active)
        self._looks = self._looks + 1 if wish and wish == self._wish else 1
        self._wish = wish
        if not wish or self._looks < CALM_LOOKS or time.monotonic() < self._free_s:
            return ""
        self._free_s = time.monotonic() + COOL_DOWN_S
        leader = next(each for each in members if each.role == "leader")
        began_s = time.monotonic()
        told = await asyncio.to_thread(_asked, f"http://{leader.host}/switchover", {"leader": leader.name, "candidate": wish})
        _log.info("placement: PostgreSQL's primary goes from %s to %s, where the cache's is (%s), in %.1f s: %s",
                  leader.name, wish, wan.NAMES[active], time.monotonic() - began_s, told)
        return wish

    async def _count(self, members: Sequence[Member], many: int) -> None:
        """Let there be so many synchronous standbys, where some looks in a row have asked for it."""
        self._many_looks = self._many_looks + 1 if many and many == self._many else 1
        self._many = many
        if not many or self._many_looks < CALM_LOOKS:
            return
        self._many_looks = 0
        leader = next(each for each in members if each.role == "leader")
        told = await asyncio.to_thread(_asked, f"http://{leader.host}/config", {"synchronous_node_count": many}, "PATCH")
        _log.info("placement: PostgreSQL gets %d synchronous standbys: %s", many, told[:200])

    def _of(self, kind: str) -> list[Child]:
        return [child for child in self._children.values() if child.node.kind == kind]

    async def _active(self) -> int:
        """Return the region of the cache's primary; 0 where no majority of the sentinels names one."""
        named = await asyncio.to_thread(sentinel.named, [child.ctx.address for child in self._of("sentinel")])
        return next((child.node.region for child in self._of("redis") if child.ctx.address == named), 0)

    async def _members(self) -> list[Member]:
        """Return the members as most of them tell it; none where most do not agree on who leads."""
        members = self._of("postgres")
        return agreed(await asyncio.gather(*(self._view(child) for child in members if child.state == "healthy")), len(members))

    @staticmethod
    async def _view(child: Child) -> list[Member]:
        try:
            told = await asyncio.to_thread(_asked, f"http://{child.ctx.host}:{patroni.REST_PORT}/cluster", None)
        except OSError:
            return []
        return [Member(row["name"], row["role"], row["state"], _host(row["api_url"]), _whole(row.get("lag")))
                for row in json.loads(told)["members"]]


def _host(url: str) -> str:
    return url.split("/")[2]


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None  # Patroni says "unknown" of a member that does not answer it


def _asked(url: str, body: dict[str, Any] | None, method: str = "POST") -> str:
    """Return the answer to a GET, or to `method` with `body`. Raises OSError. Blocks."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method="GET" if data is None else method)
    with urllib.request.urlopen(request, timeout=ASK_TIMEOUT_S if body is None else SWITCH_TIMEOUT_S) as answer:
        return str(answer.read(65_536).decode(errors="replace"))
