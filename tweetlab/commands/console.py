"""`tweetlab console`: a live dashboard of the lab."""

from __future__ import annotations

import contextlib
import webbrowser
from typing import Annotated

import typer

from tweetlab import home
from tweetlab.commands import options
from tweetlab.commands.results import Json
from tweetlab.terminal import Screen


def console(port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 picks a free one.",
                                           parser=options.whole("--port", 0, 65_535))] = 8799,
            open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
            as_json: Json = False) -> int:
    """Serve a live, read-only dashboard of the lab on 127.0.0.1 until Ctrl-C.

    It shows health, request rates, latency, queues, load, faults, alerts and runs.
    """
    from tweetlab.console import app
    from tweetlab.console.collector import Collector

    listener = app.bind(port)
    url = f"http://{app.HOST}:{listener.getsockname()[1]}/"
    screen = Screen(as_json)
    screen.show(f"console: {url}  (range {home.lab_range()}; Ctrl-C stops it)")
    screen.emit({"console": url})
    if open_:
        webbrowser.open(url)
    with contextlib.suppress(KeyboardInterrupt):
        app.serve(app.Console(Collector(home.ROOT, home.lab_range(), home.RUNS), home.RUNS), listener)
    return 0
