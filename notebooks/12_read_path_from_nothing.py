# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12. The read path in SimPy, from nothing
#
# **Question.** How much of a home read can be explained by sixty lines that you can write yourself?
#
# You know SimPy: processes, `yield`, resources. This notebook writes the read path of the home timeline
# from nothing, with service demands from the calibration, and compares it with the project's own model and
# with a measurement. Read `docs/how-to/twin.md` for what the project's model adds, and `sim/` for how.

# %%
import numpy as np
import pandas as pd
import simpy

from sim import calibration
from tweetlab import api
from tweetlab.api import course, figures

known = calibration.default()
demand_us = {name: known.units[name].base_us + 20 * known.units[name].per_item_us
             for name in ("load-generator.home", "haproxy-1.public", "gateway-1.home", "haproxy-1.mesh", "timelines-1.home",
                          "redis-1.home_read", "redis-1.hot_read")}
pd.Series(demand_us, name="CPU per request at low load, µs").round(0).to_frame()

# %% [markdown]
# ## What happens to a home read
#
# The generator sends it to HAProxy, HAProxy to a gateway, the gateway through HAProxy to the timelines
# service; that reads the timeline and then twenty tweets from Redis; the response goes back the same way.
# Every process has one thread. All of them share **two cores**: that is the part that a chain of
# independent M/M/1 queues gets wrong.
#
# Your prediction: with these demands, at which rate are both cores busy? And how far below the measured
# median will sixty lines be at 60 reads per second?

# %%
full = course.predict("sixty lines: home reads per second at which two cores are busy", None)
median = course.predict("sixty lines: median of a home read at 60/s, ms", None)
full, median

# %% [markdown]
# ## The model

# %%
PATH = ["load-generator.home", "haproxy-1.public", "gateway-1.home", "haproxy-1.mesh", "timelines-1.home", "redis-1.home_read",
        "redis-1.hot_read", "timelines-1.home", "haproxy-1.mesh", "gateway-1.home", "haproxy-1.public", "load-generator.home"]
SLICE_S = 0.0028  # of Linux on two cores


class ReadPath:
    """Home reads on two shared cores: an open workload, one thread per process, CPU in slices."""

    def __init__(self, rate_per_s, seconds, seed, cost=1.0):
        self.env = simpy.Environment()
        self.random = np.random.default_rng(seed)
        self.cores = simpy.Resource(self.env, capacity=2)
        self.threads = {unit.split(".")[0]: simpy.Resource(self.env, capacity=1) for unit in PATH}
        self.visits = pd.Series(PATH).value_counts()
        self.cost, self.responses, self.busy_s = cost, [], 0.0
        self.env.process(self.arrivals(rate_per_s, seconds))
        self.env.run(until=seconds + 5)

    def arrivals(self, rate_per_s, seconds):
        """Start one process per read; reads do not wait for each other."""
        while self.env.now < seconds:
            yield self.env.timeout(self.random.exponential(1 / rate_per_s))
            self.env.process(self.read())

    def read(self):
        """One home read: every step of the path in turn."""
        due = self.env.now
        for unit in PATH:
            work_s = self.cost * demand_us[unit] / self.visits[unit] * 1e-6 * self.random.lognormal(-0.111, 0.472)
            with self.threads[unit.split(".")[0]].request() as thread:
                yield thread
                yield from self.compute(work_s)
        self.responses.append((due, 1e3 * (self.env.now - due)))

    def compute(self, work_s):
        """Use CPU in slices; between two slices others may run."""
        while work_s > 0:
            with self.cores.request() as core:
                yield core
                used = min(work_s, SLICE_S)
                yield self.env.timeout(used)
                work_s, self.busy_s = work_s - used, self.busy_s + used


# %%
def summary(rate_per_s, cost=1.0, seconds=30):
    """Return percentiles and busy cores of the sixty lines."""
    model = ReadPath(rate_per_s, seconds, seed=1, cost=cost)
    times = np.array([t for due, t in model.responses if due > 2])
    return {**{f"p{q}_ms": np.quantile(times, q / 100) for q in (50, 95, 99)}, "busy_cores": model.busy_s / seconds}


mine = pd.DataFrame({rate: summary(rate) for rate in (60, 150, 300)}).T.rename_axis("reads/s")
print(course.compare(full, 2e6 / sum(demand_us.values()), "the utilization law"))
print(course.compare(median, mine.loc[60, "p50_ms"], "your model"))
mine.round(2)

# %% [markdown]
# ## Beside the project's model and the real system
#
# The measured ladder has 50 % home reads; the twin plays the same rates of the same mix.

# %%
measured = api.load("notebooks/data/read_ladder")
rows = measured.history().query("route == 'home' and outcome == 'ok'")
stages = [one for one in measured.windows.stages if 30 <= one.rate_from_per_s <= 400 and one.start_s < 115]
real = {round(one.rate_from_per_s): rows[rows["due_s"].between(one.start_s + 4, one.end_s)]["response_ms"] for one in stages}
twin = {rate: api.simulate("how_many_reads", rate=rate, replications=1, measure__warm_up=4,
                           **{"workload.stages.0.for": 24}).responses_ms("home") for rate in real}
own = {rate: np.array([t for due, t in ReadPath(rate, 20, 2).responses if due > 2]) for rate in real}
table = pd.DataFrame({(name, f"p{q}_ms"): {rate: np.quantile(one[rate], q / 100) for rate in real}
                      for name, one in (("measured", real), ("twin", twin), ("sixty lines", own)) for q in (50, 99)})
table.rename_axis("requests/s").round(1)

# %%
axis = ("requests per second, all routes", "ms")
figure, (left, right) = figures.row({"p50 of home": axis, "p99 of home": axis})
for ax, column in ((left, "p50_ms"), (right, "p99_ms")):
    for name in ("measured", "twin", "sixty lines"):
        ax.plot(table.index, table[(name, column)], marker="o", label=name)
    ax.set_ylim(bottom=0)
figures.legend(left)
figure

# %% [markdown]
# ## The gap, explained
#
# The sixty lines know CPU and nothing else. Missing, in the order of what they cost: delays without CPU on
# every hop (network stack, wake-ups, the sender's timer tick: about two milliseconds in all, most of the
# median), the background CPU of the JVMs, costs that *fall* with load because one wake-up serves several
# requests (so the lines overestimate high rates), cache misses, and the other routes of the mix. The
# project's twin adds these; each is a module of `sim/` with its test.
#
# ## Exercises
#
# 1. Add a constant delay of 0.15 ms per hop and half a core of background work. How much of the gap closes?
# 2. Replace the two shared cores by one core for each process, as a chain of queues would. What happens to
#    p99 at 300/s?
# 3. Add a cache: one read in ten finds no timeline and calls Cassandra (take `cassandra-1.author_read` per
#    author, 40 authors). Which percentile moves first?
#
# Answers: `notebooks/answers/12_read_path_from_nothing.md`.

# %%
# Your cell.
