"""Commands that look into a lab: its log lines and its traces."""

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


def logs(node: Annotated[str, typer.Argument(help="Show this node's log (or `supervisor`); without one, search all.")] = "",
         search: Annotated[str, typer.Option("--search", help="Words that a line must hold.")] = "",
         trace: Annotated[str, typer.Option("--trace", help="Lines of this trace.")] = "",
         request: Annotated[str, typer.Option("--request", help="Lines of this request id.")] = "",
         level: Annotated[str, typer.Option("--level", help="This level or graver: info, warning, error, critical.")] = "",
         service: Annotated[str, typer.Option("--service", help="Lines of a service, or of one instance.")] = "",
         since: Annotated[str, typer.Option("--since", help="Not older than this: 30s, 5m, 1h30m.")] = "",
         lines: Annotated[int, typer.Option(help="How many of the last lines.",
                                            parser=options.whole("--lines", 1, 10_000))] = 40,
         follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing as the node's log grows.")] = False,
         as_json: Json = False) -> int:
    """Show the end of a node's log, or search the lines of all our processes (in Elasticsearch where they are shipped)."""
    from tweetlab.lab import log_search as line_search

    since_s = options.duration_s("--since", since) if since else None
    ask = line_search.Ask(search, trace, request, level, service, since_s)
    screen = Screen(as_json)
    if not node:
        return _search(ask, lines, screen)
    if ask != line_search.Ask():
        raise WrongInput(f"A search looks through all nodes; name {node!r} by --service instead.")
    return _show_log(node, lines, follow, screen)


def _search(ask: object, limit: int, screen: Screen) -> int:
    from system.kernel.telemetry import logs as shapes
    from tweetlab.lab import log_search as line_search

    assert isinstance(ask, line_search.Ask)
    found, where = asyncio.run(line_search.find(_lab(), ask, limit))
    for told in found:
        screen.show(shapes.pretty(told))
    screen.say(f"{len(found)} lines{' (the newest; --lines shows more)' if len(found) == limit else ''}; {where}")
    screen.emit(found)
    return 0


def _show_log(node: str, lines: int, follow: bool, screen: Screen) -> int:
    from system.kernel.telemetry import logs as shapes

    lab = _lab()
    text = lab.logs(node, lines)
    screen.show(text)
    screen.emit({"node": node, "text": text})
    if follow:
        with lab.log_path(node).open() as file:
            file.seek(0, 2)
            while True:
                for line in file:
                    print(shapes.readable(line.rstrip("\n")), flush=True)
                time.sleep(0.5)
    return 0


def traces(trace: Annotated[str, typer.Argument(help="Show this trace; without one, list the slowest requests.")] = "",
           slow: Annotated[str, typer.Option("--slow", help="Requests that took at least this: 50ms, 1s.")] = "",
           route: Annotated[str, typer.Option("--route", help="A route by its name, such as home or post.")] = "",
           lines: Annotated[int, typer.Option(help="How many.",
                                              parser=options.whole("--lines", 1, 1_000))] = 20,
           as_json: Json = False) -> int:
    """Show one trace as a waterfall, or list the slowest sampled requests of a lab with --observe. Exit 3 without a lab."""
    from tweetlab.lab import traces as asking

    screen = Screen(as_json)
    url = f"http://{_lab().address('jaeger')}"
    if trace:
        if len(trace) > 32 or not trace.isascii() or not all(char in "0123456789abcdefABCDEF" for char in trace):
            raise WrongInput(f"{trace!r} is no trace id; one has up to 32 hexadecimal digits, as `tweetlab traces` lists them.")
        told = asyncio.run(asking.one(url, trace))
        if told is None:
            raise WrongInput(f"Jaeger keeps no trace {trace}: it was not sampled, or 2,000 newer ones took its place. "
                             f"`tweetlab logs --trace {trace}` still finds its log lines.")
        for line in asking.lines(told):
            screen.show(line)
        screen.show(f"{url}/trace/{told.id}")
        screen.emit(dataclasses.asdict(told))
        return 0
    least_ms = 1000 * options.duration_s("--slow", slow) if slow else 0.0
    found, _ = asyncio.run(asking.slowest(url, route=_label(route), least_ms=least_ms, limit=lines))
    for each in found:
        began = datetime.datetime.fromtimestamp(each.began_ms / 1e3, datetime.UTC).strftime("%H:%M:%S.%f")[:-3]
        failed = "FAILED " if each.failed else ""
        screen.show(f"{began}  {each.ms:>9.1f} ms  {len(each.steps):>3} spans  {failed}{each.route:<52} {each.id}")
    if not found:
        screen.show("no such trace is kept; a request with the header `x-tweetlab-trace: 1` makes one")
    screen.emit([asking.summary(each, url) for each in found])
    return 0


def _label(route: str) -> str:
    """Return how the gateway's spans name a route."""
    from system.services.gateway import policy

    known = {row.name: f"{row.method} {row.path}" for row in policy.ROUTES}
    if route and route not in known:
        raise WrongInput(f"The route {route!r} is unknown; known are {', '.join(sorted(known))}.")
    return known.get(route, "")
