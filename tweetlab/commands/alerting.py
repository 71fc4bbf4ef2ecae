"""`tweetlab alerts`: the active alerts of a lab started with --observe."""

from __future__ import annotations

import asyncio
import datetime

from system.kernel.errors import LabError
from tweetlab.commands.lab import _lab
from tweetlab.commands.results import Json
from tweetlab.terminal import Screen


def alerts(as_json: Json = False) -> int:
    """List the active alerts and the pages that were sent (needs a lab started with --observe).

    Exit: 0 no alert is firing, 1 at least one is firing, 3 the lab is down or not observed.
    """
    from tweetlab.lab import monitoring

    screen = Screen(as_json)
    reported = asyncio.run(monitoring.alerts(_lab()))
    firing = [row for row in reported["prometheus"] if row["state"] == "firing"]
    for row in reported["prometheus"]:
        labels = row["labels"]
        windows = f" [{labels['set']} {labels['windows']}]" if "windows" in labels else ""
        screen.show(f"{row['state']:<8} {labels.get('severity', ''):<7} {labels['alertname']}{windows}: {row['summary']}")
    if not reported["prometheus"]:
        screen.show("no alert is active")
    screen.show(monitoring.fullness(reported["observed_s"]))
    for row in reported["incidents"]:
        ended = f"resolved {_clock(row['resolved_ms'])}" if row["resolved_ms"] else "open"
        repeated = f", sent {row['duplicates'] + 1} times" if row["duplicates"] else ""
        screen.show(f"{row['pager']:<10} {_clock(row['opened_ms'])}  {row['summary']}: {ended}{repeated}")
    screen.emit(reported)
    return LabError.exit_code if firing else 0


def _clock(ms: int) -> str:
    return datetime.datetime.fromtimestamp(ms / 1e3, datetime.UTC).strftime("%H:%M:%S")
