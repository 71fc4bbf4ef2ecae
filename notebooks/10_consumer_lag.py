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
# # 10. Consumer lag
#
# **Question.** Posts arrive faster than the fan-out workers handle them. How large does the backlog become,
# and when is the last follower served?

# %%
import numpy as np
import pandas as pd

from tweetlab import api
from tweetlab.api import course, figures

# %% [markdown]
# ## Arithmetic
#
# A consumer that handles µ events per second and receives λ falls behind by λ − µ each second, and needs
# lag / (µ − λ) seconds to catch up. Parallelism is bounded by the partitions. A batch adds its gather time
# to every event even without lag.
#
# Your prediction: the burst below posts 200 tweets per second for 10 s, each to 60 followers on average. A
# worker handles an event in 2 ms plus 20 µs for each follower. What is the largest lag, and how many
# seconds after the burst is it gone (30 posts/s)?

# %%
lag = course.predict("burst of 200 posts/s for 10 s: largest lag, events", None)
gone = course.predict("burst of 200 posts/s for 10 s: seconds after its end until the lag is gone", None)
lag, gone


# %%
def consume(batch_s=0.0, seed=1, seconds=60, burst=200.0):
    """Return arrival and end times of events at one consumer; `batch_s`: it collects events that long before each batch."""
    random = np.random.default_rng(seed)
    arrivals, now = [], 0.0
    while now < seconds:
        now += random.exponential(1 / (burst if 10 <= now < 20 else 30.0))
        arrivals.append(now)
    followers = np.minimum(random.pareto(1.5, len(arrivals)) * 30 + 1, 1500)
    done, free, at = np.zeros(len(arrivals)), 0.0, 0
    while at < len(arrivals):
        start = max(free, arrivals[at] + batch_s)
        end = at
        while end < len(arrivals) and arrivals[end] <= start and end - at < 500:
            start_cost = 0.002 + 20e-6 * followers[end]
            free = (free if end > at else start) + start_cost
            done[end] = free
            end += 1
        if end == at:
            free = start
        at = max(end, at)
    return np.array(arrivals), done


def lag_by_second(arrivals, done, seconds=60):
    """Return the number of events that have arrived and are not done, at each second."""
    return np.array([(arrivals <= t).sum() - (done[arrivals <= t] <= t).sum() for t in range(seconds)])


arrivals, done = consume()
curve = lag_by_second(arrivals, done)
over = np.flatnonzero(curve[20:] <= 5)
print(course.compare(lag, curve.max()))
print(course.compare(gone, float(over[0]) if len(over) else 40.0))
figure, (left, right) = figures.row({"Lag": ("time, s", "events"), "From post to timeline": ("time of the post, s", "seconds")})
for batch_s in (0.0, 0.2):
    arrivals, done = consume(batch_s)
    left.plot(lag_by_second(arrivals, done), label=f"gather {1000 * batch_s:.0f} ms")
    right.plot(arrivals, done - arrivals, ".", markersize=2)
figures.legend(left)
right.set_yscale("log")
figure

# %% [markdown]
# ## The whole system, predicted and measured
#
# `posting_storm`: 40 operations per second, then 110, more than half of them posts.

# %%
measured = api.load("notebooks/data/posting_storm")
predicted = api.simulate("notebooks/data/posting_storm/scenario.yaml", replications=2)


rows = {}
for name, run in (("measured", measured), ("predicted", predicted)):
    block = run.record.summary["delivery"]
    rows[name] = {"tweets": block["n"], "p50_s": block["p50_s"], "p95_s": block["p95_s"], "p99_s": block["p99_s"]}
pd.DataFrame(rows).T

# %%
series = measured.record.series
lags = series[(series["name"] == "lag")]
figure, ax = figures.axes("Measured lag of the consumer groups", "time, s", "events")
for node, rows in lags.groupby("node"):
    ax.plot(rows["t_s"], rows["value"], label=node)
figures.legend(ax)
figure

# %% [markdown]
# ## The gap, explained
#
# Delivery without lag is a sum of waits that have nothing to do with load: the publisher's gather (20 ms),
# Kafka, the worker's gather and its poll. The twin has the same gathers, so medians agree better than
# anywhere else; tails differ where a garbage collection stops Kafka or a worker waits for a core. The
# indexer gathers longest on purpose: search may be later than timelines.
#
# ## Exercises
#
# 1. Two workers on two partitions, keyed by author: does the largest lag halve? What if one author posts a
#    third of all tweets?
# 2. A rebalance stops all consumers for 3 s. When is it least harmful, and how long is it felt?
# 3. Which alert is better: lag above 1,000 events, or the age of the oldest event above 10 s? Try both on
#    the two curves.
#
# Answers: `notebooks/answers/10_consumer_lag.md`.

# %%
# Your cell.
