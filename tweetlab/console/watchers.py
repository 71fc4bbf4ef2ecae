"""What observing nodes tell (`tweetlab up --observe`): alerts, and pages of theirs to go on with. Absent ones tell nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import aiohttp

from system.platform.provider import NodeStatus

Json = dict[str, Any]
PAGES = {  # kind -> (what the link says, port, path)
    "jaeger": ("Traces", 16686, "/search?service=gateway"),
    "prometheus": ("Prometheus", 9090, "/alerts"),
    "alertmanager": ("Alertmanager", 9093, "/#/alerts"),
}


def links(nodes: Iterable[NodeStatus]) -> list[Json]:
    """Return the pages that the nodes of a lab serve to people."""
    found = []
    for node in nodes:
        host = node.address.rpartition(":")[0]
        if node.kind == "haproxy":
            found.append({"name": "Web client", "url": f"http://{node.address}/"})
            found.append({"name": "API", "url": f"http://{node.address}/openapi.json"})
        elif node.kind in PAGES:
            name, port, path = PAGES[node.kind]
            found.append({"name": name, "url": f"http://{host}:{port}{path}"})
    return found


async def alerts(web: aiohttp.ClientSession, nodes: Iterable[NodeStatus]) -> list[Json] | None:
    """Return the alerts that Prometheus holds, firing ones first; None where nobody observes or it does not answer."""
    address = next((node.address for node in nodes if node.kind == "prometheus"), None)
    if address is None:
        return None
    try:
        async with web.get(f"http://{address}/api/v1/alerts") as answer:
            raw = (await answer.json())["data"]["alerts"]
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError):
        return None
    told = [{"name": str(each["labels"].get("alertname", "?")), "state": str(each.get("state", "")),
             "severity": str(each["labels"].get("severity", "")), "since": str(each.get("activeAt", "")),
             "text": str(each.get("annotations", {}).get("summary") or each.get("annotations", {}).get("description", "")),
             "labels": {key: str(value) for key, value in each["labels"].items() if key not in ("alertname", "severity")}}
            for each in raw]
    return sorted(told, key=lambda each: (each["state"] != "firing", each["name"]))
