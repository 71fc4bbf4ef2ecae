"""Traces of an observed lab, from Jaeger: which requests were slow, and where they spent their time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from system.kernel.errors import CouldNotRun

PATIENCE_S = 10.0
AT_MOST = 1_500   # traces searched for the slowest ones; Jaeger keeps 2,000
KEPT_OF_RUN = 10  # slowest requests that a run's record keeps


@dataclass(frozen=True)
class Step:
    """One span.

    `at_ms`: from the start of the trace. `depth`: 0 for the request itself. `attributes`: its tags.
    """

    service: str
    name: str
    at_ms: float
    ms: float
    depth: int
    failed: bool
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Trace:
    """One request and everything it caused, parents before children.

    `ms`: of the request itself; `all_ms`: of everything.
    """

    id: str
    route: str
    began_ms: float
    ms: float
    all_ms: float
    failed: bool
    steps: tuple[Step, ...]

    @property
    def services(self) -> list[str]:
        """Names of its services, in order of their first span."""
        return list(dict.fromkeys(step.service for step in self.steps))


async def slowest(url: str, *, route: str = "", least_ms: float = 0.0, limit: int = 20, between_ms: Sequence[float] = (),
                  ) -> tuple[list[Trace], list[dict[str, Any]]]:
    """Return the slowest requests, slowest first, and the same in Jaeger's JSON.

    `route`: the name of the gateway's span, "" for all. `between_ms`: wall time of the first and the last
    request that count, () for all. Raises CouldNotRun if Jaeger does not answer.
    """
    params = {"service": "gateway", "limit": str(AT_MOST)}
    if route:
        params["operation"] = route
    if least_ms:
        params["minDuration"] = f"{least_ms:g}ms"
    if between_ms:
        params |= {"start": str(int(between_ms[0] * 1000)), "end": str(int(between_ms[1] * 1000))}
    pairs = [(read(raw), raw) for raw in await _get(url, "/api/traces", params) if raw["spans"]]
    matching = [pair for pair in pairs if pair[0].ms >= least_ms and pair[0].steps[0].service == "gateway"]
    matching.sort(key=lambda pair: -pair[0].ms)
    return [trace for trace, _ in matching[:limit]], [raw for _, raw in matching[:limit]]


async def one(url: str, trace_id: str) -> Trace | None:
    """Return a trace; None if Jaeger has none of this id. Raises CouldNotRun if Jaeger does not answer."""
    rows = await _get(url, f"/api/traces/{trace_id}", {})
    return read(rows[0]) if rows else None


def read(raw: Mapping[str, Any]) -> Trace:
    """Return a trace from Jaeger's JSON."""
    spans = sorted(raw["spans"], key=lambda span: span["startTime"])
    known = {span["spanID"] for span in spans}
    below: dict[str, list[Mapping[str, Any]]] = {}
    for span in spans:
        below.setdefault(_parent(span, known), []).append(span)
    first = spans[0]["startTime"]
    steps = tuple(_step(span, depth, first, raw["processes"]) for span, depth in _walk(below, "", 0))
    last = max(span["startTime"] + span["duration"] for span in spans)
    return Trace(str(raw["traceID"]), steps[0].name, first / 1000, steps[0].ms, (last - first) / 1000, steps[0].failed, steps)


def _parent(span: Mapping[str, Any], known: set[str]) -> str:
    above = [ref["spanID"] for ref in span.get("references", ()) if ref["refType"] == "CHILD_OF"]
    return above[0] if above and above[0] in known else ""


def _walk(below: Mapping[str, Sequence[Mapping[str, Any]]], span_id: str, depth: int) -> Iterable[tuple[Mapping[str, Any], int]]:
    for span in below.get(span_id, ()):
        yield span, depth
        yield from _walk(below, str(span["spanID"]), depth + 1)


def _step(span: Mapping[str, Any], depth: int, first: int, processes: Mapping[str, Any]) -> Step:
    attributes = {tag["key"]: tag["value"] for tag in span["tags"]}
    process = processes[span["processID"]]
    attributes |= {tag["key"]: tag["value"] for tag in process.get("tags", ()) if tag["key"] == "service.instance.id"}
    failed = attributes.get("otel.status_code") == "ERROR" or attributes.get("error") is True
    return Step(str(process["serviceName"]), str(span["operationName"]), (span["startTime"] - first) / 1000,
                span["duration"] / 1000, depth, failed, attributes)


async def _get(url: str, path: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
    import aiohttp

    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as web:
            async with web.get(url + path, params=params) as reply:
                if reply.status == 404:
                    return []
                if reply.status >= 400:
                    raise CouldNotRun(f"Jaeger at {url} answered {reply.status}: {(await reply.text())[:200]}")
                return list((await reply.json())["data"] or ())
    except (aiohttp.ClientError, TimeoutError, OSError) as problem:
        raise CouldNotRun(f"Jaeger does not answer at {url} ({problem}). To fix: `tweetlab up --observe`.") from None


def lines(trace: Trace, width: int = 40) -> list[str]:
    """Return a trace as text: one line per span, with a bar on the time axis."""
    rows = [f"trace {trace.id}: {trace.route}, {trace.ms:.1f} ms; until its last span {trace.all_ms:.1f} ms"]
    scale = width / trace.all_ms if trace.all_ms else 0.0
    for step in trace.steps:
        left = min(width - 1, int(step.at_ms * scale))
        bar = " " * left + "=" * max(1, min(width - left, round(step.ms * scale)))
        why = f"  ! {step.attributes.get('error.type', 'failed')}" if step.failed else ""
        rows.append(f"{'  ' * step.depth + step.service + ' ' + step.name:<58.58} {step.ms:>9.2f} ms |{bar:<{width}}|{why}")
    return rows


def summary(trace: Trace, url: str) -> dict[str, Any]:
    """Return what a run's record keeps of a trace. `parts`: milliseconds of each call before the reply."""
    parts: dict[str, float] = {}
    for step in trace.steps[1:]:
        in_request = step.at_ms < trace.ms  # what starts after the reply does not delay it
        if in_request and (step.name.startswith("call ") or "db.system.name" in step.attributes):
            parts[step.name] = round(parts.get(step.name, 0.0) + step.ms, 2)
    return {"id": trace.id, "route": trace.route, "began_ms": trace.began_ms, "ms": round(trace.ms, 2), "failed": trace.failed,
            "spans": len(trace.steps), "parts": parts, "url": f"{url}/trace/{trace.id}"}


async def of_run(url: str, between_ms: Sequence[float]) -> tuple[dict[str, Any], str]:
    """Return (what the record keeps of a run's traces, the slowest of them in Jaeger's JSON)."""
    requests, raw = await slowest(url, limit=KEPT_OF_RUN, between_ms=between_ms)
    return {"slowest": [summary(trace, url) for trace in requests]}, json.dumps({"data": raw})
