"""Restarts every instance of a service with a changed environment, one after the other, without a failed
request.

    start a spare with the new environment -> HAProxy sends it requests
    -> for each instance: drain, stop, start, readmit -> remove the spare

The spare takes the load of the instance that is away: `small` has one of each. A failure on the way leaves
the spare running; the repeated call continues from any such state and removes the spares of earlier attempts.
Until an instance's turn comes its old environment holds, also if it is restarted after a death.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from system.kernel.errors import CouldNotRun, WrongInput
from system.platform.process.child import Child
from system.platform.scaling import haproxy_fleet
from system.platform.scaling.haproxy_fleet import HaproxyFleet
from system.platform.scaling.haproxy_runtime import Backend

if TYPE_CHECKING:
    from system.platform.scaling.autoscaler import Autoscaler

UP_S = 10.0  # longest wait until HAProxy's checks pass for a healthy instance
POLL_S = 0.05


async def run(autoscaler: Autoscaler, kind: str) -> list[str]:
    """Restart each instance of `kind` with the environment that the supervisor holds for it now; return their
    names.

    Raises WrongInput if no HAProxy that answers serves `kind`, CouldNotRun if an instance does not become
    healthy or HAProxy does not report it up.
    """
    async with autoscaler.exclusive(kind):
        fleet = haproxy_fleet.of(autoscaler.host.children)
        backends = await haproxy_fleet.backends_or_none(fleet)
        if fleet is None or kind not in backends:
            raise WrongInput(f"No HAProxy that answers serves {kind!r}; they serve {', '.join(backends) or 'nothing'}.")
        spare, spares = await autoscaler.add(kind), autoscaler.spares.setdefault(kind, [])
        spares.append(spare)
        await _until_up(fleet, kind, spare.node.name)
        for earlier in [child for child in autoscaler.instances(kind) if child in spares[:-1]]:  # of restarts that failed
            await autoscaler.remove(earlier)
        old = [child for child in autoscaler.instances(kind) if child is not spare]
        for child in old:
            await _restart_one(autoscaler, fleet, child)
        await autoscaler.remove(spare)
        del autoscaler.spares[kind]
        autoscaler.record(kind, f"{len(old)} restarted, one by one", "its environment changed")
        return [child.node.name for child in old]


async def _restart_one(autoscaler: Autoscaler, fleet: HaproxyFleet, child: Child) -> None:
    kind, name = child.node.kind, child.node.name
    with autoscaler.leaving(name):
        known = name in (await haproxy_fleet.backends_or_none(fleet)).get(kind, Backend({})).servers
        if known:
            if not await fleet.drain(kind, name):
                autoscaler.record(kind, f"{name} stops with requests in flight", "they did not end in time")
            await fleet.close(kind, name)
        await child.stop()
        autoscaler.host.refresh(child)
        await child.start()
        await fleet.readmit(kind, name)
        await fleet.add(kind, name, child.ctx.address)  # in an HAProxy that restarted, or did not have it before
        await _until_up(fleet, kind, name)


async def _until_up(fleet: HaproxyFleet, kind: str, name: str) -> None:
    ends_s = asyncio.get_running_loop().time() + UP_S
    while status := await fleet.is_up(kind, name):
        if asyncio.get_running_loop().time() > ends_s:
            raise CouldNotRun(f"HAProxy did not report {name} up within {UP_S:g} s; its status is {status}.")
        await asyncio.sleep(POLL_S)
