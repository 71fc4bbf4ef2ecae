"""Rows that load the whole system: capacities by bisection (`tweetlab.load.capacity`), and delivery."""

from __future__ import annotations

from scenarios import loader
from system.kernel.errors import CouldNotRun
from tweetlab.lab import session
from tweetlab.run import capacity_run, runner
from tweetlab.terminal import Screen

CAPACITY = {  # row's route -> the scenario, and the overrides that limit it to that route
    "home": ("steady_home", ["workload.mix={home: 100}", "workload.stages.0.rate=700/s",
                             "objectives=[home p99 <= 100 ms steady, errors < 0.5 % whole]"]),
    "post": ("steady_posts", ["workload.mix={post: 100}", "workload.stages.0.rate=140/s",
                              "objectives=[post p99 <= 100 ms steady, errors < 0.5 % whole]"]),
}
DELIVERY = ["workload.stages=[{for: 40 s, rate: 50/s}]", "workload.mix={post: 100}"]


async def capacity(route: str) -> float:
    """Return the capacity for `route` (home or post) in requests per second, with its p99 at or below 100 ms."""
    scenario = loader.load(*CAPACITY[route])
    screen = Screen()
    async with session.opened(screen, scenario.platform, scenario.policies) as lab:
        result = await capacity_run.find(lab, scenario)
    screen.say(result.explain())
    return result.rate_per_s


async def delivery_p99_s() -> float:
    """Return the p99 from an acknowledged post to all followers' timelines, in s, at 50 posts/s and 75 followers on average."""
    scenario = loader.load("steady_posts", DELIVERY)
    async with session.opened(Screen(), scenario.platform, scenario.policies) as lab:
        facts = await runner.run(lab, scenario, "bench delivery_p99_s", check=False)
    from reports import delivery, finish
    from reports.judge import over_due
    from tweetlab import home

    run = finish.finish(home.RUNS, facts)
    due = delivery.due(run.history, run.effects, run.start_ns)
    if due.empty:
        raise CouldNotRun(f"No delivery was recorded; see {run.path}/report.html.")
    end_ns = over_due.end_ns(facts.windows, run.history["done_ns"])
    p99 = over_due.quantile("p99", *over_due.split(due, end_ns))
    if p99.value is None:
        raise CouldNotRun(f"{p99.unanswered} of {p99.n} tweets were not delivered, so p99 has no value; "
                          f"see {run.path}/report.html.")
    return float(p99.value) / 1e9
