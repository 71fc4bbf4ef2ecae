"""What observing nodes tell (`tweetlab up --observe`): alerts, and pages of theirs to go on with. Absent ones tell nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import aiohttp

from system.platform.provider import NodeStatus

Json = dict[str, Any]
PAGES = {  # kind -> (what the link says, port, path); Debian's Prometheus has the classic pages alone, its Alertmanager none
    "jaeger": ("Traces", 16686, "/search?service=gateway"),
    "prometheus": ("Prometheus", 9090, "/classic/alerts"),
    "alertmanager": ("Alertmanager", 9093, "/api/v2/alerts"),
    "receiver": ("Incidents", 8000, "/incidents"),
}


def links(nodes: Iterable[NodeStatus]) -> list[Json]:
    """Return the pages that the nodes of a lab serve to people: of several doors the first that is well."""
    found: list[Json] = []
    for node in sorted(nodes, key=lambda one: one.health != "healthy"):
        host = node.address.rpartition(":")[0]
        if node.kind == "haproxy" and all(link["name"] != "API" for link in found):
            found.append({"name": "Web client", "url": f"http://{node.address}/"})
            found.append({"name": "API", "url": f"http://{node.address}/openapi.json"})
        elif node.kind in PAGES:
            name, port, path = PAGES[node.kind]
            found.append({"name": name, "url": f"http://{host}:{port}{path}"})
    return found


async def alerts(web: aiohttp.ClientSession, nodes: Iterable[NodeStatus]) -> list[Json] | None:
    """Return the alerts that Prometheus holds, those that page first, firing before pending.

    One row for all windows of a budget, and one for all tickets of a kind: a restart of the services is one piece of news.
    None where nobody observes, or Prometheus does not answer.
    """
    address = next((node.address for node in nodes if node.kind == "prometheus"), None)
    if address is None:
        return None
    try:
        async with web.get(f"http://{address}/api/v1/alerts") as answer:
            answer.raise_for_status()
            raw = (await answer.json())["data"]["alerts"]
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError):
        return None
    rows: dict[tuple[str, ...], Json] = {}
    for alert in sorted(map(_told, raw), key=lambda each: (each["severity"] != "page", each["state"] != "firing", each["name"])):
        rows.setdefault(_key(alert), alert | {"others": []})["others"].append(alert["text"])
    for row in rows.values():
        row["others"].remove(row["text"])
    return list(rows.values())


def _key(alert: Json) -> tuple[str, ...]:
    """Return what alerts of one row have in common."""
    if "slo" in alert["labels"]:
        return alert["name"], alert["labels"]["slo"]
    if alert["severity"] != "page":
        return (alert["name"],)
    return alert["name"], *sorted(f"{name}={value}" for name, value in alert["labels"].items())


def _told(raw: Json) -> Json:
    """Return one alert as the page shows it. `others`, added later: texts of further ones in the same row."""
    notes = raw.get("annotations", {})
    return {"name": str(raw["labels"].get("alertname", "?")), "state": str(raw.get("state", "")),
            "severity": str(raw["labels"].get("severity", "")), "since": str(raw.get("activeAt", "")),
            "text": str(notes.get("summary") or notes.get("description", "")),
            "labels": {key: str(value) for key, value in raw["labels"].items() if key not in ("alertname", "severity")}}
