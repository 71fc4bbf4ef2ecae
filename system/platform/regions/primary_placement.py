"""Moves the PostgreSQL primary of a lab with regions to the region of the cache's primary, the active region.

This module elects no primary: sentinels elect the cache's, Patroni PostgreSQL's, and each survives the loss
of a region on its own. But the two may be in different regions, or PostgreSQL's in the witness, and then each
statement crosses the WAN. Once both are stable, this module requests a switchover from Patroni to a member
that can lead without data loss: the synchronous standby. Writes wait for 2 to 4 s during a switchover. If the
synchronous standby is not in the active region, for example after a start on old data, there are two
synchronous standbys until the primary has moved.
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
from system.platform.process.child import Child
from system.platform.servers import patroni, sentinel

EVERY_S = 3.0
STABLE_POLLS = 3    # consecutive polls with the same target before a switchover: a failover takes less time
COOL_DOWN_S = 30.0  # shortest time between two switchovers
MAX_LAG_BYTES = 2**20  # maximum lag of a standby that becomes synchronous: commits wait until it has caught up
READ_TIMEOUT_S = 2.0
SWITCH_TIMEOUT_S = 20.0

_log = logging.getLogger("tweetlab")


@dataclass(frozen=True)
class Member:
    """One member of PostgreSQL, as Patroni reports it.

    `role`: leader, sync_standby or replica. `host`: address of its REST API. `lag`: bytes that it has not
    replayed, None if unknown.
    """

    name: str
    role: str
    state: str
    host: str = ""
    lag: int | None = None


def _leader(members: Sequence[Member]) -> Member | None:
    return next((member for member in members if member.role == "leader" and member.state == "running"), None)


def wanted(members: Sequence[Member], regions: Mapping[str, int], active: int) -> str:
    """Return the member that should become the leader; "" if the primary should not move now.

    `regions`: member -> region. `active`: the region of the cache's primary, 0 if unknown.
    """
    leader = _leader(members)
    if leader is None or not active or regions.get(leader.name) == active:
        return ""
    ready = [member.name for member in members
             if member.role == "sync_standby" and member.state in ("streaming", "running")]
    return next((name for name in ready if regions.get(name) == active), "")


def standbys(members: Sequence[Member], regions: Mapping[str, int], active: int) -> int:
    """Return the number of synchronous standbys to set; 0 for no change.

    It is two if the primary should move to a member that streams but is not synchronous, and one again after
    the primary has moved.
    """
    leader = _leader(members)
    synchronous = [member for member in members if member.role == "sync_standby"]
    if leader is None or not active or not synchronous:
        return 0
    if regions.get(leader.name) == active:
        return 1 if len(synchronous) > 1 else 0
    local = next((member for member in members if regions.get(member.name) == active and member.role == "replica"), None)
    caught_up = local is not None and local.lag is not None and local.lag <= MAX_LAG_BYTES
    return 2 if local and caught_up and local.state in ("streaming", "running") else 0


def agreed(views: Sequence[Sequence[Member]], total: int) -> list[Member]:
    """Return one of `views` whose leader more than half of `total` members report; [] if there is none.

    `views`: the members as each member reports them. A majority is needed because a partitioned member
    reports an outdated leader.
    """
    leaders = [next((member.name for member in view if member.role == "leader"), "") for view in views]
    return next((list(view) for view, leader in zip(views, leaders) if leader and leaders.count(leader) > total / 2), [])


class PrimaryPlacement:
    """Polls one lab and moves its PostgreSQL primary. `children`: those of the supervisor, by name."""

    def __init__(self, children: Mapping[str, Child]) -> None:
        self._children = children
        self._target, self._target_polls, self._next_move_s = "", 0, 0.0
        self._standbys, self._standbys_polls = 0, 0

    async def run(self) -> None:
        """Poll every EVERY_S, until cancelled.

        Logs errors and continues; does nothing in a lab without regions.
        """
        while True:
            await asyncio.sleep(EVERY_S)
            if not any(child.node.role == "network" for child in self._children.values()):
                continue
            try:
                await self.poll()
            except Exception as problem:  # continue after any error: no other component moves the primary
                _log.warning("primary placement: %s", problem)

    async def poll(self) -> str:
        """Poll once, and act if STABLE_POLLS consecutive polls agree.

        Returns the new primary; "" if the primary was not moved.
        """
        members, active = await asyncio.gather(self._members(), self._active())
        regions = {child.node.name: child.node.region for child in self._of("postgres")}
        await self._set_standbys(members, standbys(members, regions, active))
        target = wanted(members, regions, active)
        self._target_polls = self._target_polls + 1 if target and target == self._target else 1
        self._target = target
        if not target or self._target_polls < STABLE_POLLS or time.monotonic() < self._next_move_s:
            return ""
        self._next_move_s = time.monotonic() + COOL_DOWN_S
        leader = next(member for member in members if member.role == "leader")
        started_s = time.monotonic()
        body = {"leader": leader.name, "candidate": target}
        reply = await asyncio.to_thread(_request, f"http://{leader.host}/switchover", body)
        _log.info("primary placement: PostgreSQL's primary moves from %s to %s, to the cache's region (%s), in %.1f s: %s",
                  leader.name, target, wan.NAMES[active], time.monotonic() - started_s, reply)
        return target

    async def _set_standbys(self, members: Sequence[Member], count: int) -> None:
        """Set the number of synchronous standbys after STABLE_POLLS polls with the same `count`, not 0."""
        self._standbys_polls = self._standbys_polls + 1 if count and count == self._standbys else 1
        self._standbys = count
        if not count or self._standbys_polls < STABLE_POLLS:
            return
        self._standbys_polls = 0
        leader = next(member for member in members if member.role == "leader")
        body = {"synchronous_node_count": count}
        reply = await asyncio.to_thread(_request, f"http://{leader.host}/config", body, "PATCH")
        _log.info("primary placement: PostgreSQL gets %d synchronous standbys: %s", count, reply[:200])

    def _of(self, kind: str) -> list[Child]:
        return [child for child in self._children.values() if child.node.kind == kind]

    async def _active(self) -> int:
        """Return the region of the cache's primary; 0 if no majority of the sentinels names one."""
        named = await asyncio.to_thread(sentinel.elected_primary, [child.ctx.address for child in self._of("sentinel")])
        return next((child.node.region for child in self._of("redis") if child.ctx.address == named), 0)

    async def _members(self) -> list[Member]:
        """Return the members as reported by a majority of them; [] if no majority agrees on the leader."""
        members = self._of("postgres")
        return agreed(await asyncio.gather(*(self._view(child) for child in members if child.state == "healthy")), len(members))

    @staticmethod
    async def _view(child: Child) -> list[Member]:
        try:
            reply = await asyncio.to_thread(_request, f"http://{child.ctx.host}:{patroni.REST_PORT}/cluster", None)
        except OSError:
            return []
        return [Member(row["name"], row["role"], row["state"], _host(row["api_url"]), _int_or_none(row.get("lag")))
                for row in json.loads(reply)["members"]]


def _host(url: str) -> str:
    return url.split("/")[2]


def _int_or_none(value: object) -> int | None:
    return value if isinstance(value, int) else None  # Patroni reports "unknown" for a member that does not answer


def _request(url: str, body: dict[str, Any] | None, method: str = "POST") -> str:
    """Return the reply to a GET, or to `method` with `body`. Raises OSError. Blocks."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method="GET" if data is None else method)
    with urllib.request.urlopen(request, timeout=READ_TIMEOUT_S if body is None else SWITCH_TIMEOUT_S) as answer:
        return str(answer.read(65_536).decode(errors="replace"))
