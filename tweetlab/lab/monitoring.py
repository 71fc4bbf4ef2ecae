"""The observability stack of a lab with --observe: its pages, the active alerts, and the pages that were sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from system.kernel.errors import CouldNotRun
from system.platform import alerting

if TYPE_CHECKING:
    import aiohttp

    from system.platform.native import Lab

PAGES = {  # kind of node -> (what its page shows, path)
    "prometheus": ("metrics and rules", "/classic/alerts"),
    "alertmanager": ("alerts that it forwards", "/api/v2/alerts"),
    "receiver": ("incidents sent to PagerDuty and OpsGenie", "/incidents"),
    "jaeger": ("traces", "/"),
}
PATIENCE_S = 5.0


def urls(lab: Lab) -> dict[str, str]:
    """Return the URL of each page."""
    from system.platform.addresses import KINDS

    return {kind: f"http://{lab.address(kind)}{path}" for kind, (_, path) in PAGES.items() if kind in KINDS}


def lines(lab: Lab) -> list[str]:
    """Return the pages as lines of text, and the factor by which the fast set of alerts is compressed."""
    rows = [f"{kind}: {url}  {PAGES[kind][0]}" for kind, url in urls(lab).items()]
    pairs = ", ".join(map(_pair, alerting.compressed()))
    return [*rows, f"burn-rate alerts: the standard windows, and the same divided by {alerting.COMPRESSION} ({pairs})"]


async def alerts(lab: Lab) -> dict[str, Any]:
    """Return the alerts: `prometheus` (pending ones too), `alertmanager` (forwarded ones), `incidents` (sent to pagers).

    `observed_s`: seconds since Prometheus first evaluated its rules; `not_full`: burn-rate windows longer
    than that. Raises CouldNotRun if the lab is not observed.
    """
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as web:
            rules, forwarded, pagers, age = await asyncio.gather(
                _json(web, f"http://{lab.address('prometheus')}/api/v1/alerts"),
                _json(web, f"http://{lab.address('alertmanager')}/api/v2/alerts"),
                _json(web, f"http://{lab.address('receiver')}/incidents"),
                _json(web, f"http://{lab.address('prometheus')}/api/v1/query", query=alerting.OBSERVED_S))
    except (aiohttp.ClientError, TimeoutError) as problem:
        raise CouldNotRun(f"No observability stack in this range ({problem}). To fix: `tweetlab up --observe`.") from None
    observed_s = _observed_s(age)
    return {"factor": alerting.COMPRESSION, "observed_s": observed_s,
            "not_full": [_pair(window) for window in alerting.not_full(observed_s)],
            "prometheus": [_rule(row) for row in rules["data"]["alerts"]],
            "alertmanager": [_forwarded(row) for row in forwarded], "incidents": pagers["incidents"]}


def _observed_s(reply: dict[str, Any]) -> float:
    """Return the value of a query for the time observed; 0 before the first evaluation of the rules."""
    rows = reply["data"]["result"]
    return float(rows[0]["value"][1]) if rows else 0.0


def fullness(observed_s: float) -> str:
    """Return a line about the burn-rate windows that `observed_s` does not fill yet."""
    pairs = ", ".join(map(_pair, alerting.not_full(observed_s)))
    if not pairs:
        return "every burn-rate window is full"
    return f"burn-rate windows not full after {observed_s:.0f} s: {pairs}"


def _pair(window: alerting.Window) -> str:
    return f"{alerting.window_text(window.long_s)}/{alerting.window_text(window.short_s)}"


async def _json(web: aiohttp.ClientSession, url: str, **params: str) -> Any:
    async with web.get(url, params=params) as reply:
        reply.raise_for_status()
        return await reply.json()


def _rule(row: dict[str, Any]) -> dict[str, Any]:
    return {"state": row["state"], "since": row["activeAt"], "value": row["value"], "labels": row["labels"],
            "summary": row["annotations"].get("summary", "")}


def _forwarded(row: dict[str, Any]) -> dict[str, Any]:
    return {"state": row["status"]["state"], "since": row["startsAt"], "labels": row["labels"],
            "receivers": [receiver["name"] for receiver in row["receivers"]]}
