"""`tweetlab wan`: show and change the emulated WAN links between the regions of a lab."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from scenarios import units
from system.kernel import wan as links
from system.kernel.errors import WrongInput
from system.platform.native import Lab
from system.platform.servers import wan as emulator
from tweetlab.commands.lab import _lab
from tweetlab.commands.results import Json
from tweetlab.terminal import Screen

BITS = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}


def wan(between: Annotated[tuple[str, str], typer.Option(help="Only the links between these two regions.")] = ("", ""),
        delay: Annotated[str, typer.Option(help="One-way delay of each packet: 40ms.")] = "",
        jitter: Annotated[str, typer.Option(help="Maximum of an additional random delay: 5ms.")] = "",
        loss: Annotated[str, typer.Option(help="Share of packets that are dropped: 1%.")] = "",
        rate: Annotated[str, typer.Option(help="Bandwidth limit: 10mbit; 0 for no limit.")] = "",
        cut: Annotated[bool | None, typer.Option(
            "--cut/--join", help="`--cut` drops all packets on the links, `--join` reconnects them.")] = None,
        one_way: Annotated[bool, typer.Option(
            "--one-way", help="Only the direction from the first region of --between to the second.")] = False,
        calm: Annotated[bool, typer.Option(
            "--calm", help="Reset all links to their state when the lab started.")] = False,
        as_json: Json = False) -> int:
    """Show or change the WAN links between regions: delay, jitter, loss, bandwidth, cuts (blueprint `two_regions`)."""
    screen, lab = Screen(as_json), _lab()
    change = _change(delay, jitter, loss, rate, cut)
    if calm and change:
        raise WrongInput("--calm resets every link; omit it to change one thing.")
    rows = asyncio.run(_apply(lab, _pairs(between, one_way), change, calm))
    screen.show(_table(rows))
    screen.emit([{**row, "from": links.NAMES[row["from"]], "to": links.NAMES[row["to"]]} for row in rows])
    return 0


async def _apply(lab: Lab, pairs: list[list[int]], change: dict[str, Any], calm: bool) -> list[dict[str, Any]]:
    """Apply `change` to the links of `pairs`, or reset all with `calm`; return the state of every link."""
    blueprint = await lab.blueprint()
    if not blueprint.in_regions:
        raise WrongInput(f"The lab that is up, {blueprint.name!r}, has no regions, so it has no WAN links. To fix: "
                         "`tweetlab down --purge`, then `tweetlab up two_regions`.")
    if change:
        await emulator.ask(lab.paths, {"op": "set", "pairs": pairs, "line": change})
    elif calm:
        await emulator.ask(lab.paths, {"op": "reset"})
    return list(await emulator.ask(lab.paths, {"op": "look"}))


def _pairs(between: tuple[str, str], one_way: bool) -> list[list[int]]:
    """Return the directed links to change; without names those between all regions, except the users' links."""
    numbers = {name: number for number, name in links.NAMES.items()}
    if not any(between):
        if one_way:
            raise WrongInput("--one-way needs --between FROM TO, which gives the direction.")
        inner = [number for number in links.NAMES if number != links.OUTSIDE]
        return [[one, other] for one in inner for other in inner if one != other]
    for name in between:
        if name not in numbers:
            raise WrongInput(f"--between names {name!r}; regions are {', '.join(numbers)}.{units.nearest(name, numbers)}")
    if between[0] == between[1]:
        raise WrongInput(f"--between names {between[0]!r} twice; there is no link from a region to itself.")
    direction = [numbers[name] for name in between]
    return [direction] if one_way else [direction, direction[::-1]]


def _change(delay: str, jitter: str, loss: str, rate: str, cut: bool | None) -> dict[str, Any]:
    """Return the changed values of a link. Raises WrongInput that names the option."""
    change: dict[str, Any] = {} if cut is None else {"cut": cut}
    options = (("--delay", "delay_s", delay, units.duration_s), ("--jitter", "jitter_s", jitter, units.duration_s),
               ("--loss", "loss", loss, units.share), ("--rate", "rate_bps", rate, _bits))
    for option, key, text, read in options:
        if text:
            try:
                change[key] = read(text)
            except units.UnitError as problem:
                raise WrongInput(f"{option} is {text!r}; {problem.allowed}{problem.hint}") from None
    links.Link(**change)
    return change


def _bits(text: str) -> float:
    return 0.0 if text == "0" else units.quantity(text, BITS, "rate", "10 mbit")


def _table(rows: list[dict[str, Any]]) -> object:
    from rich.table import Table

    table = Table("from", "to", "delay", "jitter", "loss", "rate", "state", "packets", "MB", "lost")
    for row in rows:
        rate = f"{row['rate_bps'] / 1e6:g} Mbit/s" if row["rate_bps"] else "–"
        times = (f"{row['delay_s'] * 1e3:g} ms", f"{row['jitter_s'] * 1e3:g} ms", units.format_share(row["loss"]), rate)
        table.add_row(links.NAMES[row["from"]], links.NAMES[row["to"]], *times, "CUT" if row["cut"] else "open",
                      str(row["packets"]), f"{row['bytes'] / 1e6:.1f}", str(row["lost"]))
    return table
