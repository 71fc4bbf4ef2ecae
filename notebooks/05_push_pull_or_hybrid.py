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
# # 5. Push, pull, or hybrid
#
# **Question.** An author posts. Should the tweet be written into the timeline of every follower (*push*,
# fan-out on write), or should readers collect it (*pull*, fan-out on read)? Twitter does both: authors with
# many followers are pulled. Where is the limit?

# %%
import numpy as np

from scenarios.world import population
from tweetlab import api
from tweetlab.api import course, figures

scenario = api.scenario("push_or_pull")
followers = population.graph_of(scenario.population, scenario.seed).follower_counts()[1:]
print(scenario.question)
print(f"followers: mean {followers.mean():.0f}, median {np.median(followers):.0f}, most {followers.max()}")

# %% [markdown]
# ## Arithmetic before simulation
#
# Pushing costs one write for each follower; pulling costs a lookup for each followed author *who is
# pulled*, at every read. Few authors have most of the followers: the share of all writes that authors above
# a limit cause is what a pull limit saves.

# %%
order = np.sort(followers)[::-1]
figure, ax = figures.axes("Who causes the writes?", "authors, most followed first, %", "share of all follows, %")
ax.plot(100 * np.arange(1, len(order) + 1) / len(order), 100 * np.cumsum(order) / order.sum())
ax.set_xscale("log")
figure

# %% [markdown]
# ## Your prediction
#
# `push_limit` is the number of followers above which an author is pulled. At 0 everybody is pulled, at
# 2,000 everybody is pushed. How many timeline entries are written per tweet if everybody is pushed? Which
# limit has the lowest p99 of home reads?

# %%
writes = course.predict("push_or_pull: timeline entries per tweet if everybody is pushed", None)
best = course.predict("push_or_pull: the push_limit with the lowest p99 of home reads", None)
writes, best

# %% [markdown]
# ## The simulation

# %%
swept = api.sweep("push_or_pull", replications=3, overrides=["workload.stages.0.for=40 s"])
table = swept.table("writes per tweet", "delivery p99")
columns = ["push_limit", "writes_per_tweet", "home_p99_ms", "home_p99_low_ms", "home_p99_high_ms", "delivery_p99_s",
           "utilization_percent"]
table[columns].round(2)

# %%
print(course.compare(writes, table["writes_per_tweet"].iloc[-1]))
print(course.compare(best, float(table.loc[table["home_p99_ms"].idxmin(), "push_limit"])))
figure, (left, right) = figures.row({"What a write costs": ("push_limit, followers", "timeline entries per tweet"),
                                     "What a read pays": ("push_limit, followers", "p99 of home, ms")})
left.plot(table["push_limit"] + 1, table["writes_per_tweet"], marker="o")
right.errorbar(table["push_limit"] + 1, table["home_p99_ms"], yerr=[table["home_p99_ms"] - table["home_p99_low_ms"],
               table["home_p99_high_ms"] - table["home_p99_ms"]], marker="o", capsize=3)
for ax in (left, right):
    ax.set_xscale("symlog")
    ax.set_ylim(bottom=0)
figure

# %% [markdown]
# Is the difference between two limits real? Points share their arrivals, so compare them pair by pair:

# %%
swept.against(3).round(2)

# %% [markdown]
# ## A measured point
#
# `notebooks/data/posting_storm` is a measured run with 110 operations per second, more than half of them posts,
# and `push_limit` 500. Its effect log counts the real timeline entries.

# %%
measured = api.load("notebooks/data/posting_storm")
effects = measured.record.effects
pushed = effects[effects["path"] == "push"]
real = pushed["targets"].sum() / effects["event"].nunique()
graph = measured.record.document["scenario"]["resolved"]["population"]
print(f"measured: {real:.1f} entries per tweet; {graph['users']} users, {graph['follows']['mean']:g} followers on average")

# %%
predicted = api.simulate("notebooks/data/posting_storm/scenario.yaml", replications=2)
effects = predicted.record.effects
pushed = effects[(effects["group"] == "fanout") & (effects["path"] == "push")]
tweets = effects.loc[(effects["group"] == "fanout") & (effects["kind"] == "new_tweet"), "event"].nunique()
print(f"predicted: {pushed['targets'].sum() / tweets:.1f} entries per tweet")
measured.compare(predicted, "post")

# %% [markdown]
# ## The gap, explained
#
# Entries per tweet are arithmetic, so twin and system agree closely: they count followers of the same
# graph. Latencies differ by the CPU error of the calibration and by what the twin leaves out (pauses,
# wake-up preemption). For the *choice* of a limit only the order of the points matters, and common random
# numbers make that order certain long before the levels are.
#
# ## Exercises
#
# 1. Ten reads to a post, or one read to ten posts: `overrides=["workload.mix={home: 10, post: 90}"]`. Where
#    is the optimum now?
# 2. Why is more written per tweet than the mean number of followers? (Who posts?) Set `zipf=0` and check.
# 3. A celebrity with 1,900 followers: sweep `celebrity_posts`. Who gains from pulling that author?
#
# Answers: `notebooks/answers/05_push_pull_or_hybrid.md`.

# %%
# Your cell.
