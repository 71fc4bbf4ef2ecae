"""The alerts and the links of the observability stack (`tweetlab up --observe`).

Absent nodes contribute nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import aiohttp

from system.platform.provider import NodeStatus

Json = dict[str, Any]
PAGES = {  # kind -> (link text, port, path); Debian's Prometheus has only the classic pages, its Alertmanager none
    "jaeger": ("Traces", 16686, "/search?service=gateway"),
    "prometheus": ("Prometheus", 9090, "/classic/alerts"),
    "alertmanager": ("Alertmanager", 9093, "/api/v2/alerts"),
    "receiver": ("Incidents", 8000, "/incidents"),
}


def links(nodes: Iterable[NodeStatus]) -> list[Json]:
    """Return links to the pages of a lab's nodes; of several load balancers the first healthy one."""
    pages: list[Json] = []
    for node in sorted(nodes, key=lambda node: node.health != "healthy"):
        host = node.address.rpartition(":")[0]
        if node.kind == "haproxy" and all(link["name"] != "API" for link in pages):
            pages.append({"name": "Web client", "url": f"http://{node.address}/"})
            pages.append({"name": "API", "url": f"http://{node.address}/openapi.json"})
        elif node.kind in PAGES:
            name, port, path = PAGES[node.kind]
            pages.append({"name": name, "url": f"http://{host}:{port}{path}"})
    return pages


async def alerts(web: aiohttp.ClientSession, nodes: Iterable[NodeStatus]) -> list[Json] | None:
    """Return the active alerts of Prometheus, pages before tickets, firing before pending.

    One row for all windows of a budget, and one for all tickets of a kind, so that a restart of the services
    is one row. None if the lab is not observed or Prometheus does not answer.
    """
    address = next((node.address for node in nodes if node.kind == "prometheus"), None)
    if address is None:
        return None
    try:
        async with web.get(f"http://{address}/api/v1/alerts") as reply:
            reply.raise_for_status()
            raw = (await reply.json())["data"]["alerts"]
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError):
        return None
    rows: dict[tuple[str, ...], Json] = {}
    for alert in sorted(map(_alert, raw), key=lambda row: (row["severity"] != "page", row["state"] != "firing", row["name"])):
        rows.setdefault(_key(alert), alert | {"others": []})["others"].append(alert["text"])
    for row in rows.values():
        row["others"].remove(row["text"])
    return list(rows.values())


def _key(alert: Json) -> tuple[str, ...]:
    """Return the key that the alerts of one row share."""
    if "slo" in alert["labels"]:
        return alert["name"], alert["labels"]["slo"]
    if alert["severity"] != "page":
        return (alert["name"],)
    return alert["name"], *sorted(f"{name}={value}" for name, value in alert["labels"].items())


def _alert(raw: Json) -> Json:
    """Return one alert for the page. `others`, added later: texts of the other alerts in the same row."""
    notes = raw.get("annotations", {})
    return {"name": str(raw["labels"].get("alertname", "?")), "state": str(raw.get("state", "")),
            "severity": str(raw["labels"].get("severity", "")), "since": str(raw.get("activeAt", "")),
            "text": str(notes.get("summary") or notes.get("description", "")),
            "labels": {key: str(value) for key, value in raw["labels"].items() if key not in ("alertname", "severity")}}
