"""Commands that query a lab's telemetry: log lines and traces."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import time
from typing import Annotated

import typer

from system.kernel.errors import WrongInput
from tweetlab.commands import options
from tweetlab.commands.lab import _lab
from tweetlab.commands.results import Json
from tweetlab.terminal import Screen


def logs(node: Annotated[str, typer.Argument(
    help="A node (or `supervisor`) whose log to show; omit it to search all logs.")] = "",
         search: Annotated[str, typer.Option("--search", help="Only lines that contain all of these words (whole words).")] = "",
         trace: Annotated[str, typer.Option("--trace", help="Only lines of this trace id.")] = "",
         request: Annotated[str, typer.Option("--request", help="Only lines of this request id.")] = "",
         level: Annotated[str, typer.Option(
             "--level", help="Only lines of this level or above: info, warning, error, critical.")] = "",
         service: Annotated[str, typer.Option(
             "--service", help="Only lines of a service (users) or of one instance (users-1).")] = "",
         since: Annotated[str, typer.Option(
             "--since", help="Only lines that are at most this old: 30s, 5m, 1h30m.")] = "",
         lines: Annotated[int, typer.Option(help="Show this many of the newest lines.",
                                            parser=options.whole("--lines", 1, 10_000))] = 40,
         follow: Annotated[bool, typer.Option(
             "--follow", "-f", help="Continue to print new lines of the node until Ctrl-C.")] = False,
         as_json: Json = False) -> int:
    """Show the end of a node's log, or search the log lines of all services.

    A search runs in Elasticsearch if the lab ships its logs there (`tweetlab up --observe`), else in the log
    files.
    """
    from tweetlab.lab import log_search

    since_s = options.duration_s("--since", since) if since else None
    query = log_search.Ask(search, trace, request, level, service, since_s)
    screen = Screen(as_json)
    if not node:
        return _search(query, lines, screen)
    if query != log_search.Ask():
        raise WrongInput(f"A search covers all nodes; to limit it to {node!r}, use --service instead.")
    return _show_log(node, lines, follow, screen)


def _search(query: object, limit: int, screen: Screen) -> int:
    from system.kernel.telemetry import logs as log_format
    from tweetlab.lab import log_search

    assert isinstance(query, log_search.Ask)
    rows, where = asyncio.run(log_search.find(_lab(), query, limit))
    for row in rows:
        screen.show(log_format.pretty(row))
    screen.say(f"{len(rows)} lines{' (the newest; --lines shows more)' if len(rows) == limit else ''}; {where}")
    screen.emit(rows)
    return 0


def _show_log(node: str, lines: int, follow: bool, screen: Screen) -> int:
    from system.kernel.telemetry import logs as log_format

    lab = _lab()
    text = lab.logs(node, lines)
    screen.show(text)
    screen.emit({"node": node, "text": text})
    if follow:
        with lab.log_path(node).open() as file:
            file.seek(0, 2)
            while True:
                for line in file:
                    print(log_format.readable(line.rstrip("\n")), flush=True)
                time.sleep(0.5)
    return 0


def traces(trace: Annotated[str, typer.Argument(help="A trace id to show; omit it to list the slowest requests.")] = "",
           slow: Annotated[str, typer.Option(
               "--slow", help="Only requests that took at least this long: 50ms, 1s.")] = "",
           route: Annotated[str, typer.Option(
               "--route", help="Only requests of this route, such as home or post.")] = "",
           lines: Annotated[int, typer.Option(help="Show at most this many requests.",
                                              parser=options.whole("--lines", 1, 1_000))] = 20,
           as_json: Json = False) -> int:
    """Show one trace as a waterfall, or list the slowest sampled requests (needs a lab started with --observe).

    Exit: 3 if Jaeger does not answer.
    """
    from tweetlab.lab import traces as jaeger

    screen = Screen(as_json)
    url = f"http://{_lab().address('jaeger')}"
    if trace:
        if len(trace) > 32 or not trace.isascii() or not all(char in "0123456789abcdefABCDEF" for char in trace):
            raise WrongInput(f"{trace!r} is not a trace id; it must have at most 32 hexadecimal digits, as listed by "
                             "`tweetlab traces`.")
        result = asyncio.run(jaeger.one(url, trace))
        if result is None:
            raise WrongInput(f"Jaeger has no trace {trace}: it was not sampled, or 2,000 newer ones replaced it. "
                             f"`tweetlab logs --trace {trace}` still finds its log lines.")
        for line in jaeger.lines(result):
            screen.show(line)
        screen.show(f"{url}/trace/{result.id}")
        screen.emit(dataclasses.asdict(result))
        return 0
    least_ms = 1000 * options.duration_s("--slow", slow) if slow else 0.0
    requests, _ = asyncio.run(jaeger.slowest(url, route=_span_name(route), least_ms=least_ms, limit=lines))
    for request in requests:
        began = datetime.datetime.fromtimestamp(request.began_ms / 1e3, datetime.UTC).strftime("%H:%M:%S.%f")[:-3]
        failed = "FAILED " if request.failed else ""
        screen.show(f"{began}  {request.ms:>9.1f} ms  {len(request.steps):>3} spans  {failed}{request.route:<52} {request.id}")
    if not requests:
        screen.show("no matching trace; to force one, send a request with the header `x-tweetlab-trace: 1`")
    screen.emit([jaeger.summary(request, url) for request in requests])
    return 0


def _span_name(route: str) -> str:
    """Return the name of a route in the gateway's spans; "" for "".

    Raises WrongInput for an unknown route.
    """
    from system.services.gateway import policy

    known = {row.name: f"{row.method} {row.path}" for row in policy.ROUTES}
    if route and route not in known:
        raise WrongInput(f"The route {route!r} is unknown; known are {', '.join(sorted(known))}.")
    return known.get(route, "")
