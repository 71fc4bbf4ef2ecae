"""Traces of an observed lab, asked from Jaeger: which requests were slow, and where their time went."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from system.kernel.errors import CouldNotRun

PATIENCE_S = 10.0
AT_MOST = 1_500   # traces looked through for the slowest ones; Jaeger keeps 2,000
KEPT_OF_RUN = 10  # slowest requests that a run's record keeps


@dataclass(frozen=True)
class Step:
    """One span. `at_ms`: from the trace's begin. `depth`: 0 for the request itself. `told`: its attributes."""

    service: str
    name: str
    at_ms: float
    ms: float
    depth: int
    failed: bool
    told: Mapping[str, Any]


@dataclass(frozen=True)
class Trace:
    """One request and all that followed from it, parents before children. `ms`: of the request alone; `all_ms`: with the rest."""

    id: str
    route: str
    began_ms: float
    ms: float
    all_ms: float
    failed: bool
    steps: tuple[Step, ...]

    @property
    def services(self) -> list[str]:
        """Names of the services in it, in the order in which they joined."""
        return list(dict.fromkeys(step.service for step in self.steps))


async def slowest(url: str, *, route: str = "", least_ms: float = 0.0, limit: int = 20, between_ms: Sequence[float] = (),
                  ) -> tuple[list[Trace], list[dict[str, Any]]]:
    """Return the slowest requests, slowest first, and the same as Jaeger tells them.

    `route`: as the gateway's spans name it, "" for all. `between_ms`: wall time of the first and the last that count.
    Raises CouldNotRun where Jaeger does not answer.
    """
    ask = {"service": "gateway", "limit": str(AT_MOST)}
    if route:
        ask["operation"] = route
    if least_ms:
        ask["minDuration"] = f"{least_ms:g}ms"
    if between_ms:
        ask |= {"start": str(int(between_ms[0] * 1000)), "end": str(int(between_ms[1] * 1000))}
    raw = [(read(each), each) for each in await _asked(url, "/api/traces", ask) if each["spans"]]
    found = [pair for pair in raw if pair[0].ms >= least_ms and pair[0].steps[0].service == "gateway"]
    found.sort(key=lambda pair: -pair[0].ms)
    return [trace for trace, _ in found[:limit]], [each for _, each in found[:limit]]


async def one(url: str, trace_id: str) -> Trace | None:
    """Return a trace; None where none of this id is kept. Raises CouldNotRun where Jaeger does not answer."""
    found = await _asked(url, f"/api/traces/{trace_id}", {})
    return read(found[0]) if found else None


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
    told = {tag["key"]: tag["value"] for tag in span["tags"]}
    process = processes[span["processID"]]
    told |= {tag["key"]: tag["value"] for tag in process.get("tags", ()) if tag["key"] == "service.instance.id"}
    failed = told.get("otel.status_code") == "ERROR" or told.get("error") is True
    return Step(str(process["serviceName"]), str(span["operationName"]), (span["startTime"] - first) / 1000,
                span["duration"] / 1000, depth, failed, told)


async def _asked(url: str, path: str, ask: Mapping[str, str]) -> list[dict[str, Any]]:
    import aiohttp

    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as web:
            async with web.get(url + path, params=ask) as answer:
                if answer.status == 404:
                    return []
                if answer.status >= 400:
                    raise CouldNotRun(f"Jaeger at {url} answered {answer.status}: {(await answer.text())[:200]}")
                return list((await answer.json())["data"] or ())
    except (aiohttp.ClientError, TimeoutError, OSError) as problem:
        raise CouldNotRun(f"No Jaeger answers at {url} ({problem}); `tweetlab up --observe` starts one.") from None


def lines(trace: Trace, width: int = 40) -> list[str]:
    """Return a trace as text: a line a span, with a bar where in time it was."""
    told = [f"trace {trace.id}: {trace.route}, {trace.ms:.1f} ms; with all that followed {trace.all_ms:.1f} ms"]
    scale = width / trace.all_ms if trace.all_ms else 0.0
    for step in trace.steps:
        left = min(width - 1, int(step.at_ms * scale))
        bar = " " * left + "=" * max(1, min(width - left, round(step.ms * scale)))
        why = f"  ! {step.told.get('error.type', 'failed')}" if step.failed else ""
        told.append(f"{'  ' * step.depth + step.service + ' ' + step.name:<58.58} {step.ms:>9.2f} ms |{bar:<{width}}|{why}")
    return told


def summary(trace: Trace, url: str) -> dict[str, Any]:
    """Return what a run's record keeps of a trace: `parts`: milliseconds of the calls before the answer."""
    parts: dict[str, float] = {}
    for step in trace.steps[1:]:
        waited_for = step.at_ms < trace.ms  # what begins after the answer is nobody's waiting
        if waited_for and (step.name.startswith("call ") or "db.system.name" in step.told):
            parts[step.name] = round(parts.get(step.name, 0.0) + step.ms, 2)
    return {"id": trace.id, "route": trace.route, "began_ms": trace.began_ms, "ms": round(trace.ms, 2), "failed": trace.failed,
            "spans": len(trace.steps), "parts": parts, "url": f"{url}/trace/{trace.id}"}


async def of_run(url: str, between_ms: Sequence[float]) -> tuple[dict[str, Any], str]:
    """Return (what the record keeps of a run's traces, the slowest of them as Jaeger's own JSON)."""
    found, raw = await slowest(url, limit=KEPT_OF_RUN, between_ms=between_ms)
    return {"slowest": [summary(trace, url) for trace in found]}, json.dumps({"data": raw})
