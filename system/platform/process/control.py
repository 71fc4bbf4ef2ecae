"""What callers may ask of the supervisor: one table of operations, and the row of `status`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from system.kernel import policies
from system.platform.process import procs
from system.platform.process.children import Child

if TYPE_CHECKING:
    from system.platform.process.supervisor import Supervisor, Tell

Request = dict[str, Any]
Operation = Callable[[], Awaitable[Any]]


def table(house: Supervisor, request: Request, tell: Tell, begun: list[Child]) -> dict[str, Operation]:
    """Return the operations by name, ready to be carried out for `request`. A change of scale outlives its caller."""
    node = str(request.get("node", ""))
    return {
        "ping": lambda: _later(lambda: {"pid": os.getpid(), "range": house.plan.range, "blueprint": house.blueprint.to_json()}),
        "start": lambda: house.alone(house.start(request, tell, begun)),
        "settled": lambda: _later(house.settled),
        "restart_services": lambda: house.alone(house.restart_services(request, tell)),
        "stop_services": lambda: house.alone(house.stop_services()),
        "renew": lambda: asyncio.shield(house.alone(house.renew(request))),
        "status": house.status,
        "cpu_ns": lambda: _later(house.cpu_ns),
        "rss_bytes": lambda: asyncio.to_thread(house.rss_bytes),
        "kill": lambda: _later(lambda: house.kill(node)),
        "stop_node": lambda: house.child(node).stop(),
        "start_node": lambda: house.child(node).start(),
        "auto_heal": lambda: _later(lambda: house.auto_heal(node, bool(request["on"]))),
        "set_quota": lambda: _later(lambda: house.child(node).limit(request["cores"])),
        "scale": lambda: asyncio.shield(house.keeper.scale(str(request["service"]), int(request["instances"]))),
        "scaling": lambda: _later(house.keeper.told),
        "set_scaling": lambda: asyncio.shield(
            house.keeper.configure(policies.from_json(str(request["policies"])), request["quota"])),
    }


def row(child: Child, answer: str) -> dict[str, Any]:
    """Return what `status` tells of a node. `answer`: of its health probe."""
    return {
        "name": child.node.name,
        "kind": child.node.kind,
        "role": child.node.role,
        "state": child.state,
        "pid": child.pid if child.is_alive() else 0,
        "start_ticks": child.start_ticks,
        "address": child.ctx.address,
        "started_at": child.started_at,
        "restarts": child.restarts,
        "rss_bytes": procs.rss_bytes(child.pids()),
        "health": answer,
        "auto_heal": child.auto_heal,
        "zone": child.node.zone,
        "region": child.node.region,
    }


async def _later(work: Callable[[], Any]) -> Any:
    return work()
