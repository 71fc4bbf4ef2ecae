"""The command that shows and changes the lines between the regions of a lab."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from scenarios import units
from system.kernel import wan as lines
from system.kernel.errors import WrongInput
from system.platform.native import Lab
from system.platform.servers import wan as carrier
from tweetlab.commands.lab import _lab
from tweetlab.commands.results import Json
from tweetlab.terminal import Screen

BITS = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}


def wan(between: Annotated[tuple[str, str], typer.Option(help="Two regions: only the lines between them.")] = ("", ""),
        delay: Annotated[str, typer.Option(help="Hold each packet so long, one way: 40ms.")] = "",
        jitter: Annotated[str, typer.Option(help="And up to so much longer: 5ms.")] = "",
        loss: Annotated[str, typer.Option(help="Lose this share of the packets: 1%.")] = "",
        rate: Annotated[str, typer.Option(help="Send no faster: 10mbit; 0 for no limit.")] = "",
        cut: Annotated[bool | None, typer.Option("--cut/--join", help="Let nothing through, or all again.")] = None,
        one_way: Annotated[bool, typer.Option("--one-way", help="Only from the first of --between to the second.")] = False,
        calm: Annotated[bool, typer.Option("--calm", help="All lines as at the start of the lab.")] = False,
        as_json: Json = False) -> int:
    """Show the lines between the regions of a lab, or change them: delay, loss, bandwidth, cuts. For `two_regions`."""
    screen, lab = Screen(as_json), _lab()
    change = _change(delay, jitter, loss, rate, cut)
    if calm and change:
        raise WrongInput("--calm sets everything as at the start; leave it out to change one thing.")
    rows = asyncio.run(_asked(lab, _pairs(between, one_way), change, calm))
    screen.show(_table(rows))
    screen.emit([{**row, "from": lines.NAMES[row["from"]], "to": lines.NAMES[row["to"]]} for row in rows])
    return 0


async def _asked(lab: Lab, pairs: list[list[int]], change: dict[str, Any], calm: bool) -> list[dict[str, Any]]:
    blueprint = await lab.blueprint()
    if not blueprint.in_regions:
        raise WrongInput(f"The lab that is up, {blueprint.name!r}, has no regions and so no lines between them; take it down and "
                         "bring one up that has: `tweetlab down --purge`, then `tweetlab up two_regions`.")
    if change:
        await carrier.ask(lab.paths, {"op": "set", "pairs": pairs, "line": change})
    elif calm:
        await carrier.ask(lab.paths, {"op": "reset"})
    return list(await carrier.ask(lab.paths, {"op": "look"}))


def _pairs(between: tuple[str, str], one_way: bool) -> list[list[int]]:
    """Return the directed lines that are meant; without two names those between all regions, users' left out."""
    numbers = {name: number for number, name in lines.NAMES.items()}
    if not any(between):
        if one_way:
            raise WrongInput("--one-way needs --between FROM TO: it says which way is meant.")
        inner = [number for number in lines.NAMES if number != lines.OUTSIDE]
        return [[one, other] for one in inner for other in inner if one != other]
    for name in between:
        if name not in numbers:
            raise WrongInput(f"--between names {name!r}; regions are {', '.join(numbers)}.{units.nearest(name, numbers)}")
    if between[0] == between[1]:
        raise WrongInput(f"--between names {between[0]!r} twice; there is no line from a region to itself.")
    there = [numbers[name] for name in between]
    return [there] if one_way else [there, there[::-1]]


def _change(delay: str, jitter: str, loss: str, rate: str, cut: bool | None) -> dict[str, Any]:
    """Return what a line is told. Raises WrongInput naming the option."""
    told: dict[str, Any] = {} if cut is None else {"cut": cut}
    asked = (("--delay", "delay_s", delay, units.duration_s), ("--jitter", "jitter_s", jitter, units.duration_s),
             ("--loss", "loss", loss, units.share), ("--rate", "rate_bps", rate, _bits))
    for option, key, text, read in asked:
        if text:
            try:
                told[key] = read(text)
            except units.UnitError as problem:
                raise WrongInput(f"{option} is {text!r}; {problem.allowed}{problem.hint}") from None
    lines.Line(**told)
    return told


def _bits(text: str) -> float:
    return 0.0 if text == "0" else units.quantity(text, BITS, "rate", "10 mbit")


def _table(rows: list[dict[str, Any]]) -> object:
    from rich.table import Table

    table = Table("from", "to", "delay", "jitter", "loss", "rate", "state", "packets", "MB", "lost")
    for row in rows:
        rate = f"{row['rate_bps'] / 1e6:g} Mbit/s" if row["rate_bps"] else "–"
        times = (f"{row['delay_s'] * 1e3:g} ms", f"{row['jitter_s'] * 1e3:g} ms", units.tell_share(row["loss"]), rate)
        table.add_row(lines.NAMES[row["from"]], lines.NAMES[row["to"]], *times, "CUT" if row["cut"] else "open",
                      str(row["packets"]), f"{row['bytes'] / 1e6:.1f}", str(row["lost"]))
    return table
