"""Commands that manage a lab: set up, start, stop, scale, seed, show its status."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, Annotated

import typer

from tweetlab import home
from tweetlab.commands import graphs, options
from tweetlab.commands.results import Json, Observe
from tweetlab.terminal import Screen

if TYPE_CHECKING:
    from system.platform.native import Lab
    from system.platform.provider import NodeStatus


AUTOSCALER_LATE_S = 10.0  # it runs once a second; one reading of an unresponsive HAProxy takes several


def _lab() -> Lab:
    from system.platform import native

    return native.Lab(home.ROOT, home.lab_range())


def setup(observe: Annotated[bool, typer.Option(
    "--observe", help="Also install the observability stack (Prometheus, Alertmanager, Jaeger, log shipping).")] = False,
          as_json: Json = False) -> int:
    """Install the servers (PostgreSQL, Kafka, ...) into the user's cache folder, once for all checkouts.

    `make setup` installs the Python environment and then calls this.
    """
    from system.platform.install import packages
    from tweetlab import setup as server_setup

    screen = Screen(as_json)
    asyncio.run(server_setup.servers(screen.say, packages.OBSERVABILITY if observe else ()))
    screen.emit({"ok": True})
    return 0


def doctor(as_json: Json = False) -> int:
    """Check this machine: list each requirement and how to fix what is missing. Changes nothing.

    Exit: 0 everything is met, 3 something is missing.
    """
    from tweetlab import doctor as checks

    screen = Screen(as_json)
    facts = checks.check()
    for fact in facts:
        screen.show(f"{'ok  ' if fact.ok else 'MISS'}  {fact.name:<22} {fact.fact}")
        if not fact.ok:
            screen.show(f"      fix: {fact.fix}")
    screen.emit([dataclasses.asdict(fact) for fact in facts])
    return 0 if all(fact.ok for fact in facts) else 3


def up(blueprint: Annotated[str, typer.Argument(
    help="The set of servers to start: `small`, `cluster` (three zones) or `two_regions`.")] = "small",
       seed: Annotated[bool, typer.Option(
           "--seed", help="Seed the population of `first_run` and print a login.")] = False,
       stores_only: Annotated[bool, typer.Option(
           "--stores-only", help="Start only the six stores, without services.")] = False,
       provider: Annotated[str | None, typer.Option(
           "--provider", help="What runs the servers: `native` (processes, the default) or `docker` (containers). "
                              "Later commands find it from the running lab.")] = None,
       observe: Observe = False, as_json: Json = False) -> int:
    """Start a lab and wait until every server is healthy. A start that fails is rolled back."""
    screen = Screen(as_json)
    began = time.monotonic()
    asyncio.run(_up(screen, blueprint, seed, stores_only, observe, provider))
    lab = _lab()
    took = time.monotonic() - began
    screen.show(f"up in {took:.1f} s: {', '.join(n.name for n in asyncio.run(lab.status()))}")
    from tweetlab.lab import monitoring, session

    running = asyncio.run(lab.blueprint())
    screen.show(f"gateway: {session.public_addresses(lab, running)}" if not stores_only else f"stores: {lab.stores(running)}")
    for line in monitoring.lines(lab) if observe else ():
        screen.show(line)
    screen.emit({"up_s": took, "provider": lab.provider, "gateway": session.public_url(lab), "stores": lab.stores(running),
                 **({"observers": monitoring.urls(lab)} if observe else {})})
    return 0


async def _up(screen: Screen, blueprint: str, seed: bool, stores_only: bool, observe: bool,
              provider: str | None) -> None:
    from scenarios import loader
    from system.kernel import policies
    from tweetlab.lab import session
    from tweetlab.run import seeding

    scenario = loader.load("first_run")
    wanted = scenario.policies if seed else policies.Policies()
    await session.start(_lab(), blueprint, screen, wanted, stores_only, observe, provider)
    if seed and not stores_only:
        async with session.opened(screen, blueprint, wanted, keep=True, resets=True) as lab:
            with session.alone(lab.lab):
                await seeding.ensure(lab, scenario)
            for line in seeding.demo_login(lab):
                screen.show(line)


def down(purge: Annotated[bool, typer.Option(
    "--purge", help="Also delete the lab's data and logs.")] = False, as_json: Json = False) -> int:
    """Stop the lab, and clean up after earlier starts that failed or were killed."""
    asyncio.run(_lab().down(purge=purge))
    screen = Screen(as_json)
    screen.show("down")
    screen.emit({"down": True, "purged": purge})
    return 0


def status(as_json: Json = False) -> int:
    """Show every node of the lab: state, health, process, memory, restarts.

    Exit: 0 all nodes are healthy, 3 the lab is down or a node is unhealthy.
    """
    screen = Screen(as_json)
    nodes = asyncio.run(_lab().status())
    screen.show(_table(nodes) if nodes else "no lab is up; `tweetlab up` starts one")
    if nodes and _lab().provider != "native":
        screen.show(f"provider: {_lab().provider}, network {_lab().plan.network()}")
    if any(node.role == "observer" for node in nodes):
        from tweetlab.lab import monitoring

        for line in monitoring.lines(_lab()):
            screen.show(line)
    if any(node.role == "network" for node in nodes):
        screen.show(asyncio.run(_wan_links()))
    if nodes and (warning := asyncio.run(_autoscaler_warning())):
        screen.show(warning)
    screen.emit([dataclasses.asdict(node) for node in nodes])
    return 0 if nodes and all(node.health == "healthy" for node in nodes) else 3


def scale(service: Annotated[str, typer.Argument(help="A service, such as `timelines`.")],
          instances: Annotated[int, typer.Argument(help="The number of instances to reach.",
                                                   parser=options.whole("INSTANCES", 0, 1_000))],
          as_json: Json = False) -> int:
    """Add or remove instances of a service without failing a request.

    The instances of the blueprint are never removed.
    """
    screen = Screen(as_json)
    began = time.monotonic()
    result = asyncio.run(_lab().scale(service, instances))
    screen.show(f"{service}: {result['before']} -> {result['instances']} instances in {time.monotonic() - began:.1f} s")
    screen.emit(result)
    return 0


def _table(nodes: list[NodeStatus]) -> object:
    from rich.table import Table

    from tweetlab.lab import regions

    region = ["region"] if any(n.region for n in nodes) else []
    table = Table("node", *region, "state", "health", "pid", "address", "MiB", "restarts")
    for n in sorted(nodes, key=lambda n: n.region) if region else nodes:
        where = [regions.place_of(n)] if region else []
        state = f"{n.state}, paused" if n.paused else n.state
        table.add_row(n.name, *where, state, n.health, str(n.pid), n.address, f"{n.rss_bytes / 2**20:.0f}", str(n.restarts))
    table.add_section()
    table.add_row("total", *("" for _ in region), "", "", "", "", f"{sum(n.rss_bytes for n in nodes) / 2**20:.0f}", "")
    return table


async def _autoscaler_warning() -> str:
    """Return a warning if the autoscaler has not run for AUTOSCALER_LATE_S; "" if it works."""
    silent_s = float((await _lab().scaling())["looked_s"])
    return "" if silent_s <= AUTOSCALER_LATE_S else (
        f"the autoscaler last ran {silent_s:.0f} s ago; until it runs again, hung instances are not replaced "
        "(see `tweetlab logs supervisor`)")


async def _wan_links() -> str:
    from system.kernel.errors import CouldNotRun
    from system.platform.servers import wan as emulator
    from tweetlab.lab import regions

    try:
        rows = await emulator.ask(_lab().paths, {"op": "look"})
    except CouldNotRun as problem:
        return problem.detail
    return "links: " + "; ".join(f"{row['one']} – {row['other']} {row['words']}" for row in regions.between(rows))


def seed(scenario: Annotated[str, typer.Argument(help="The scenario that defines the population.")] = "first_run",
         file: graphs.Graph = "",
         undirected: graphs.Undirected = False,
         direction: graphs.Direction = "",
         as_json: Json = False) -> int:
    """Replace the lab's data with a scenario's population: users, follows, past tweets.

    Starts a lab if none is up, and leaves it running.
    """
    from scenarios import loader
    from scenarios.world import population, seeded_world
    from tweetlab.lab import session
    from tweetlab.run import seeding

    screen = Screen(as_json)
    wanted = loader.load(scenario, graphs.overrides(file, undirected, direction))
    graph = population.graph_of(wanted.population, wanted.seed)
    seeding.announce(graph, screen)
    world = seeded_world.over(graph, wanted.population, wanted.seed)

    async def go() -> dict[str, object]:
        async with session.opened(screen, wanted.platform, wanted.policies, keep=True, resets=True) as lab:
            with session.alone(lab.lab):  # the reset stops the services, so no run may be active
                return await seeding.ensure(lab, wanted, world, force=True)

    manifest = asyncio.run(go())
    screen.show(f"seeded {manifest['users']:,} users, {manifest['follows']:,} follows, {manifest['tweets']:,} tweets")
    screen.emit(manifest)
    return 0
