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
# # 2. Little's law and the knee
#
# **Question.** How many requests per second does this machine carry, and how can that be known from a run
# at half the load?
#
# Two laws need no assumption about distributions. *Little's law*: the mean number inside a system is the
# arrival rate times the mean time inside, L = λ W. *The utilization law*: a resource is busy for the rate
# times the service demand, U = X D. The first checks a measurement, the second gives the bound. Between
# them lies the knee.

# %%
import numpy as np
import pandas as pd

from tweetlab import api
from tweetlab.api import course, figures

# %% [markdown]
# ## A measured ladder
#
# The record is a real run with five rates of reads, 20 s each, from 15 to 75 % of two cores.

# %%
measured = api.load("notebooks/data/read_ladder")
operations = measured.history().query("outcome == 'ok'")
cpu = measured.cpu(by_second=True)
steps = [stage for stage in measured.windows.stages if 30 <= stage.rate_from_per_s <= 400 and stage.start_s < 115]
pd.DataFrame([{"from_s": one.start_s, "to_s": one.end_s, "planned_per_s": one.rate_from_per_s} for one in steps])

# %% [markdown]
# ## Little's law on the measurement
#
# Count the requests inside at random moments (left) and compare with rate times mean response (right). They
# must agree, whatever the distribution: a generator that loses samples, or a clock that drifts, would show
# here.

# %%
rows = []
for one in steps:
    start, end = one.start_s + 4, one.end_s  # four seconds to settle
    inside = operations[operations["due_s"].between(start, end)]
    begin, finish = inside["due_s"].to_numpy(), (inside["due_s"] + inside["response_ms"] / 1e3).to_numpy()
    moments = np.linspace(start + 0.5, end - 0.5, 4000)
    counted = np.mean([(np.searchsorted(np.sort(begin), t) - np.searchsorted(np.sort(finish), t)) for t in moments])
    rate = len(inside) / (end - start)
    busy = cpu.loc[start:end].sum(axis=1).mean()
    rows.append({"rate_per_s": rate, "counted_inside": counted, "rate_times_mean": rate * inside["response_ms"].mean() / 1e3,
                 "mean_ms": inside["response_ms"].mean(), "p99_ms": inside["response_ms"].quantile(0.99),
                 "busy_cores": busy, "demand_ms": 1e3 * busy / rate})
ladder = pd.DataFrame(rows)
ladder.round(2)

# %% [markdown]
# ## Your prediction
#
# Look at `demand_ms`, the CPU per operation. At which rate would both cores be busy? At which rate is p99
# above 100 ms?

# %%
bound = course.predict("read ladder: rate at which both cores are fully busy, 1/s", None)
knee = course.predict("read ladder: highest rate with p99 of home below 100 ms, 1/s", None)
bound, knee

# %% [markdown]
# ## The utilization law
#
# With the demand of the last step, the bound is two cores / D. The demand falls with the load (one wake-up
# of a process serves several requests), so the bound from a quiet run is too low: try the first row.

# %%
for row in (ladder.iloc[0], ladder.iloc[-1]):
    print(f"from {row['rate_per_s']:.0f}/s: D = {row['demand_ms']:.2f} ms, so at most {2e3 / row['demand_ms']:.0f}/s")
print(course.compare(bound, 2e3 / ladder["demand_ms"].iloc[-1], "the law"))

# %% [markdown]
# ## The simulation: a sweep to the knee
#
# `sweep` plays every rate on all cores with common random numbers, searches the knee by the procedure of
# `tweetlab run --find-capacity` (bisection to 3 %, three of three repeats), and names the bottleneck.

# %%
swept = api.sweep("how_many_reads", {"rate": "100..500:5"}, replications=3, operations=3000, trial_s=20)
swept

# %%
figure = swept.plot()
ax = figure.axes[0]
ax.plot(ladder["rate_per_s"], ladder["p99_ms"], "s", color=figures.MEASURED, label="measured (all reads)", zorder=5)
figures.legend(ax)
figure

# %%
print(course.compare(knee, swept.knees().loc[0, "knee_per_s"]))
swept.bottleneck()

# %%
swept.reliefs()

# %% [markdown]
# ## Where is the knee, and why so early?
#
# Response time of one server with random arrivals grows like S / (1 − U): it doubles at 50 % and is ten
# times S at 90 %. Two cores share the work, so the curve stays flat longer and then bends harder. The knee
# of the objective is where that curve meets p99 = 100 ms; the bound of the utilization law is where it
# would be vertical.

# %%
u = np.linspace(0.02, 0.97, 200)
figure, ax = figures.axes("Response time over utilization", "utilization, %", "mean response / mean at an idle machine")
ax.plot(100 * u, 1 / (1 - u), label="M/M/1: 1 / (1 - U)")
ax.plot(100 * u, 1 / (1 - u**2), label="M/M/2: 1 / (1 - U²)")
ax.plot(50 * ladder["busy_cores"], ladder["mean_ms"] / ladder["mean_ms"].iloc[0], "s", label="measured")
ax.set_ylim(0, 12)
figures.legend(ax)
figure

# %% [markdown]
# ## The gap, explained
#
# The measured ladder is not the mix of the sweep (it has no writes), and its demand falls with the load,
# which the simple formulas do not know. Still the measured points are near M/M/2 and far from M/M/1,
# because the bottleneck is the machine with two cores, not any one process. Little's law holds on the
# measurement within the noise of counting: the record is sound.
#
# ## Exercises
#
# 1. Take the demand at 95/s and predict the busy cores at 335/s by U = X D. How large is the error, and
#    which way?
# 2. Sweep `cores=2,4,8` at the knee's rate. Does twice the cores give twice the rate? What limits at eight?
# 3. Halve the objective: `overrides=["objectives=[home p99 <= 50 ms steady]"]`. How much capacity does it
#    cost?
#
# Answers: `notebooks/answers/02_littles_law_and_the_knee.md`.

# %%
# Your cell.
