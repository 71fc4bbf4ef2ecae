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
# # 8. Consistency levels, k of n, and hedging
#
# **Question.** A read asks three replicas. What does it cost to wait for one, two or all of them, and what
# does a second request to another replica save?

# %%
import numpy as np
import pandas as pd

from tweetlab import api
from tweetlab.api import course, figures

# %% [markdown]
# ## Measured service times
#
# The measured posting storm has, for each post, the time in the service that writes it, nearly all of it the write to
# Cassandra. Take these as the response time of one replica: real, with its real tail.

# %%
measured = api.load("notebooks/data/posting_storm")
history = measured.record.history
one = history.loc[(history["route"] == "post") & (history["outcome"] == "ok"), "service_us"].dropna().to_numpy() / 1000.0
print(f"{len(one)} posts: p50 {np.median(one):.1f} ms, p99 {np.quantile(one, 0.99):.1f} ms")

# %% [markdown]
# ## Your prediction
#
# Three independent replicas with this distribution. By which factor is the p99 of *all three* larger than
# that of one? And that of *two of three* (a quorum)?

# %%
every = course.predict("p99 of the slowest of three replicas, times p99 of one", None)
quorum = course.predict("p99 of the second of three replicas, times p99 of one", None)
every, quorum

# %%
random = np.random.default_rng(8)
drawn = np.sort(random.choice(one, (60_000, 3)), axis=1)
levels = {"ONE (fastest of 3)": drawn[:, 0], "QUORUM (2 of 3)": drawn[:, 1], "ALL (3 of 3)": drawn[:, 2],
          "one replica": random.choice(one, 60_000)}
table = pd.DataFrame({name: {f"p{q}_ms": np.quantile(t, q / 100) for q in (50, 95, 99)} for name, t in levels.items()}).T
print(course.compare(every, table.loc["ALL (3 of 3)", "p99_ms"] / table.loc["one replica", "p99_ms"], "resampling"))
print(course.compare(quorum, table.loc["QUORUM (2 of 3)", "p99_ms"] / table.loc["one replica", "p99_ms"], "resampling"))
table.round(1)

# %% [markdown]
# A quorum is *faster in the tail* than one replica: the slowest of three is ignored. With F the
# distribution of one, all three are done with probability F³, two of three with 3F² − 2F³, one with 1 − (1
# − F)³. But this needs independence.

# %% [markdown]
# ## Replicas on the same two cores are not independent
#
# A slow moment of the machine is slow for all three. Mix a shared part into the draw: with probability
# `shared` all replicas get the same rank of the distribution.


# %%
def correlated(shared, count=60_000):
    """Return the p99 of ONE, QUORUM and ALL if a share of the moments is common to all replicas."""
    same = random.random(count) < shared
    ranks = random.random((count, 3))
    ranks[same] = ranks[same, :1]
    times = np.sort(np.quantile(one, ranks), axis=1)
    return [np.quantile(times[:, k], 0.99) for k in range(3)]


shares = np.linspace(0, 1, 6)
curves = np.array([correlated(share) for share in shares])
figure, ax = figures.axes("p99 of three replicas", "share of moments common to all, %", "p99, ms")
for k, name in enumerate(("ONE", "QUORUM", "ALL")):
    ax.plot(100 * shares, curves[:, k], marker="o", label=name)
ax.set_ylim(bottom=0)
figures.legend(ax)
figure

# %% [markdown]
# ## Hedging: ask a second replica only if the first is slow
#
# Send to one; after a delay d without an answer, send to another; take the first answer (Dean and Barroso,
# *The tail at scale*, 2013). The price is extra load: the share of requests slower than d.

# %%
first, second = random.choice(one, 60_000), random.choice(one, 60_000)
rows = []
for quantile in (0.5, 0.75, 0.9, 0.95, 0.99):
    delay = np.quantile(one, quantile)
    hedged = np.where(first <= delay, first, np.minimum(first, delay + second))
    rows.append({"hedge after": f"p{100 * quantile:g}", "delay_ms": delay, "extra load, %": 100 * (first > delay).mean(),
                 "p99_ms": np.quantile(hedged, 0.99), "p99.9_ms": np.quantile(hedged, 0.999)})
hedges = pd.DataFrame(rows)
hedges.round(1)

# %%
figure, ax = figures.axes("What a hedge buys", "extra load, %", "p99, ms")
ax.plot(hedges["extra load, %"], hedges["p99_ms"], marker="o")
figures.bound(ax, float(np.quantile(one, 0.99)), "without hedging", figures.INK)
ax.set_ylim(bottom=0)
figure

# %% [markdown]
# ## The gap, explained
#
# The formulas assume that a second request finds an unloaded replica. Above some utilization the extra load
# makes every request slower, and hedging turns from a gain into a retry storm (notebook 7): that is why
# hedges need a budget. On this lab all replicas share two cores, so the measured gain of a quorum over one
# replica is near the right end of the correlation figure, not the left one.
#
# ## Exercises
#
# 1. Derive 3F² − 2F³ and compare with the resampled quorum at ten quantiles.
# 2. Staleness: a write reaches W of 3 replicas first, a read asks R. For which R + W is the newest value
#    always seen?
# 3. Simulate hedging with load: two servers at 60 % utilization, hedge after p90. Does p99 still improve?
#    At 80 %?
#
# Answers: `notebooks/answers/08_consistency_and_hedging.md`.

# %%
# Your cell.
