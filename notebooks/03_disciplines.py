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
# # 3. First come first served, processor sharing, and what Linux does
#
# **Question.** Two cores serve everything. Does it matter in which order they serve, and which order does
# Linux use?
#
# The mean number of busy cores is the same under every discipline; who waits for whom is not. *First come,
# first served* (FCFS) lets a long task block short ones. *Processor sharing* (PS) gives every task an equal
# part of the cores. Linux runs a queue of tasks in slices of a few milliseconds.

# %%
import heapq

import numpy as np
import pandas as pd

from tweetlab import api
from tweetlab.api import course, figures

# %% [markdown]
# ## Three disciplines in forty lines
#
# A simulation of an M/G/2 queue. Nine of ten tasks are short (1 ms), one is long (15 ms): mean 2.4 ms. At
# 580 tasks per second two cores are 70 % busy. `slice_ms` decides the discipline: infinite is FCFS, a very
# small one is PS, 2.8 ms is Linux on two cores (`docs/decisions/0016-cpu-discipline.md`).


# %%
def respond(slice_ms, count=20_000, rate_per_s=580.0, seed=1):
    """Return the response times (ms) and demands of `count` tasks on two cores, round robin with `slice_ms`."""
    random = np.random.default_rng(seed)
    arrive = np.cumsum(random.exponential(1000.0 / rate_per_s, count))
    demand = np.where(random.random(count) < 0.9, 1.0, 15.0)
    left, done = demand.copy(), np.zeros(count)
    ready, running, now, following = [], [], 0.0, 0
    while following < count or running:
        arrival = arrive[following] if following < count else np.inf
        if running and running[0][0] <= arrival:  # a slice ends
            now, task, used = heapq.heappop(running)
            left[task] -= used
            if left[task] > 1e-9:
                ready.append(task)
            else:
                done[task] = now
        else:  # a task arrives
            now = arrival
            ready.append(following)
            following += 1
        while ready and len(running) < 2:
            task = ready.pop(0)
            used = min(slice_ms, left[task])
            heapq.heappush(running, (now + used, task, used))
    return done - arrive, demand


# %% [markdown]
# ## Your prediction
#
# Under FCFS the median of the short tasks is above 1 ms, because some wait behind long ones. What is their
# p99 under FCFS, and under processor sharing? And that of the long tasks?

# %%
fcfs = course.predict("M/G/2 at 70 %: p99 of the 1 ms tasks under FCFS, ms", None)
sharing = course.predict("M/G/2 at 70 %: p99 of the 1 ms tasks under processor sharing, ms", None)
fcfs, sharing

# %%
disciplines = {"FCFS": np.inf, "Linux, 2.8 ms": 2.8, "processor sharing": 0.1}
results = {name: respond(slice_ms, 6_000 if slice_ms == 0.1 else 20_000) for name, slice_ms in disciplines.items()}
table = pd.DataFrame({name: {"short p50_ms": np.quantile(t[d == 1], 0.5), "short p99_ms": np.quantile(t[d == 1], 0.99),
                             "long p50_ms": np.quantile(t[d > 1], 0.5), "long p99_ms": np.quantile(t[d > 1], 0.99),
                             "mean_ms": t.mean()} for name, (t, d) in results.items()})
print(course.compare(fcfs, table.loc["short p99_ms", "FCFS"]))
print(course.compare(sharing, table.loc["short p99_ms", "processor sharing"]))
table.round(1)

# %%
labels = {"1 ms tasks": ("response time, ms", "share slower"), "15 ms tasks": ("response time, ms", "")}
figure, (left, right) = figures.row(labels)
for name, (times, demand) in results.items():
    for ax, chosen in ((left, demand == 1), (right, demand > 1)):
        ordered = np.sort(times[chosen])
        ax.plot(ordered, 1 - np.arange(1, len(ordered) + 1) / len(ordered), label=name)
for ax in (left, right):
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(1e-3, 1)
figures.legend(left)
figure

# %% [markdown]
# FCFS favors long tasks: once started they finish. Sharing favors short ones. Slices of 2.8 ms are in
# between, and near sharing for everything longer than a slice. A property worth remembering: under *pure*
# processor sharing the mean depends on the mean of the demand only, not on its distribution
# (insensitivity); under FCFS a heavier tail makes everybody wait.
#
# ## The real machine
#
# `notebooks/data/flash_crowd` is a measured run: 60 requests per second, then 320 for 30 s (75 % of two
# cores), then 90. The same load on the twin, whose CPU is one run queue with slices, here of 0.7 ms, which its
# calibration found:

# %%
measured = api.load("notebooks/data/flash_crowd")
predicted = api.simulate("notebooks/data/flash_crowd/scenario.yaml", replications=3)


def busy(run, route="home"):
    """Return the responses (ms) of a route while the load is 320/s."""
    rows = run.history().query("route == @route and outcome == 'ok'")
    return rows[rows["due_s"].between(22, 50)]["response_ms"].to_numpy()


runs = {"measured": busy(measured), "twin": busy(predicted)}
pd.DataFrame({name: {f"p{q:g}_ms": np.quantile(values, q / 100) for q in (50, 90, 95, 99)}
              for name, values in runs.items()}).round(1)

# %%
figure, ax = figures.axes("Home reads at 320/s, relative to their own median", "response / median", "share slower")
for name, values, style in [*((name, values, "-") for name, values in runs.items()),
                            *((f"M/G/2 {name}", times, ":") for name, (times, _) in results.items())]:
    ordered = np.sort(values) / np.median(values)
    ax.plot(ordered, 1 - np.arange(1, len(ordered) + 1) / len(ordered), style, label=name)
ax.set_xscale("log")
ax.set_yscale("log")
ax.set_ylim(1e-3, 1)
figures.legend(ax)
figure

# %% [markdown]
# ## The gap, explained
#
# Relative to their own medians, the measured and the predicted distribution have nearly the same shape, and
# none of the three single queues has it: a request visits a dozen processes, each of which waits for its
# turn on the same cores, so its time is a sum of many waits and not one. The *level* is another matter: the
# record is of a slower machine than the calibration, and at 75 % of the machine each percent of CPU is up to
# four percent of latency (notebook 11 takes that apart). And the kernel lets about half of the short tasks that wake beside
# computing ones run at once, which the model's queue does not: its medians beside busy processes are too
# high.
#
# ## Exercises
#
# 1. Show insensitivity: give all tasks the mean demand of 2.4 ms and compare the mean response under PS and
#    FCFS.
# 2. Which `slice_ms` minimizes the p99 of *all* tasks? Why does Linux not choose it? (A switch costs a few
#    µs.)
# 3. At which utilization does the p99 of the short tasks under FCFS exceed 50 ms? And under slices?
#
# Answers: `notebooks/answers/03_disciplines.md`.

# %%
# Your cell.
