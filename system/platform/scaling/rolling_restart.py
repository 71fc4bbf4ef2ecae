"""Every instance of a service again with a changed environment, one after the other, without a failed request.

    a spare starts with the new environment -> HAProxy sends it requests -> for each instance: drain, stop, start, back in
    -> the spare leaves

The spare carries what the instance that is away would: `small` has one of each. What fails on the way leaves it standing; the
call repeated goes on from any such state, and takes the spares of those before out. Until an instance's turn comes its old
environment holds, also where it is healed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from system.kernel.errors import CouldNotRun, WrongInput
from system.platform.process.children import Child
from system.platform.scaling import haproxy_fleet
from system.platform.scaling.haproxy_fleet import HaproxyFleet
from system.platform.scaling.haproxy_runtime import Backend

if TYPE_CHECKING:
    from system.platform.scaling.autoscaler import Autoscaler

UP_S = 10.0  # longest wait until HAProxy's checks find an instance that is well
LOOK_S = 0.05


async def renew(autoscaler: Autoscaler, kind: str) -> list[str]:
    """Start each instance of `kind` again, with the environment that the house gives its kind now; return their names.

    Raises WrongInput for what stands behind no HAProxy, CouldNotRun where an instance or HAProxy does not come.
    """
    async with autoscaler.alone(kind):
        mesh = haproxy_fleet.of(autoscaler.house.children)
        backends = await haproxy_fleet.seen_by(mesh)
        if mesh is None or kind not in backends:
            raise WrongInput(f"{kind!r} stands behind no HAProxy that answers; {', '.join(backends) or 'nothing'} does.")
        spare, spares = await autoscaler.add(kind), autoscaler.spares.setdefault(kind, [])
        spares.append(spare)
        await _until_up(mesh, kind, spare.node.name)
        for left in [each for each in autoscaler.instances(kind) if each in spares[:-1]]:  # of renewals that broke off
            await autoscaler.remove(left)
        old = [child for child in autoscaler.instances(kind) if child is not spare]
        for child in old:
            await _renew_one(autoscaler, mesh, child)
        await autoscaler.remove(spare)
        del autoscaler.spares[kind]
        autoscaler.tell(kind, f"{len(old)} started again, one by one", "its environment changed")
        return [child.node.name for child in old]


async def _renew_one(autoscaler: Autoscaler, mesh: HaproxyFleet, child: Child) -> None:
    kind, name = child.node.kind, child.node.name
    with autoscaler.leaving(name):
        known = name in (await haproxy_fleet.seen_by(mesh)).get(kind, Backend({})).servers
        if known:
            if not await mesh.drain(kind, name):
                autoscaler.tell(kind, f"{name} ends with requests inside", "they did not end in time")
            await mesh.close(kind, name)
        await child.stop()
        autoscaler.house.refresh(child)
        await child.start()
        await mesh.readmit(kind, name)
        await mesh.add(kind, name, child.ctx.address)  # of one that started again meanwhile, or did not know it before
        await _until_up(mesh, kind, name)


async def _until_up(mesh: HaproxyFleet, kind: str, name: str) -> None:
    ends_s = asyncio.get_running_loop().time() + UP_S
    while said := await mesh.is_up(kind, name):
        if asyncio.get_running_loop().time() > ends_s:
            raise CouldNotRun(f"HAProxy did not take {name} in within {UP_S:g} s; it says {said}.")
        await asyncio.sleep(LOOK_S)
