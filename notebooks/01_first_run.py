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
# # 1. The first run
#
# **Question.** A Twitter serves home timelines from a cache. In the middle of a run the cache loses
# everything. Who notices, how much, and for how long?
#
# This notebook starts nothing: no server, no Java, no root. A digital twin simulates the scenario
# `first_run` on a model of the machine; then a run of the real system, shipped with the project, is laid
# over it. Read a cell, predict its result, then run it.

# %%
from tweetlab import api
from tweetlab.api import course, figures

scenario = api.scenario("first_run")
print(scenario.question)
print("Expected by its author:", scenario.expect)

# %% [markdown]
# ## The experiment
#
# One file describes it: users and follows, the load (an *open* workload: users do not wait for each other),
# the fault, and the objectives. A real run and the simulation draw the same follow graph and the same
# arrivals from the seed.

# %%
print(scenario.source)

# %% [markdown]
# ## Your prediction first
#
# At 30 s Redis loses all data. A home read then finds no timeline: it reads the viewer's followees from
# PostgreSQL and their tweets from Cassandra, and puts the result into the cache. Write your numbers instead
# of `None`; they are kept in `.tweetlab/predictions.jsonl`, so that you can compare honestly later.

# %%
slowest = course.predict("first_run: p99 of home reads in the three seconds after the loss, ms", None)
until_hits = course.predict("first_run: seconds after the loss until nine of ten home reads hit the cache again", None)
slowest, until_hits

# %% [markdown]
# ## The simulation

# %%
predicted = api.simulate("first_run")
predicted

# %%
predicted.plot.latency("home")

# %% [markdown]
# The objective (dashed) is about p99 of the steady part, and again from 20 s after the loss. Now the
# answers to your questions, from the table of operations:

# %%
home = predicted.history().query("route == 'home' and outcome == 'ok'")
after = home[home["due_s"].between(30, 33)]
print(course.compare(slowest, after["response_ms"].quantile(0.99)))

hit = home["source"].str.startswith("hit")
share = hit.groupby((home["due_s"] - 30).round()).mean()
ninety = share[(share.index >= 0) & (share.rolling(3).mean() >= 0.9)].index
print(course.compare(until_hits, float(ninety[0]) if len(ninety) else 30.0))

# %%
figure, ax = figures.axes("Home reads served from the cache", "seconds after the loss", "share, %")
ax.plot(share.index, 100 * share, marker="o", markersize=3)
figures.mark(ax, 0, "cache loss")
ax.set_ylim(0, 105)
figure

# %% [markdown]
# (30 s means: not within the run.) The cache does not refill at once. Each viewer's next read pays for one
# rebuild. Frequent viewers return soon, rare viewers late: the share of hits rises fast, then slowly. Lists
# of authors are shared, so the second viewer of an author finds that list cached. The first seconds are the
# most expensive for Cassandra:

# %%
cpu = predicted.cpu(by_second=True)[["cassandra-1_cores", "timelines-1_cores", "gateway-1_cores", "redis-1_cores"]]
cpu.groupby(lambda second: "1 before" if second < 30 else "2 first 3 s after" if second < 33 else "3 later").mean().round(3)

# %% [markdown]
# ## The real system
#
# The folder `notebooks/data/first_run` is an excerpt of a real run of the same scenario: seven services on
# real Redis, Cassandra, PostgreSQL, Kafka, Elasticsearch and MinIO, on two cores.

# %%
measured = api.load("notebooks/data/first_run")
print(measured)
measured.plot.latency("home")

# %%
measured.compare(predicted, "home")

# %%
measured.differences(predicted).loc[["home", "post", "user_tweets"]].round(0)

# %% [markdown]
# ## The gap, explained
#
# The table shows which statistics are off, and which way. Two causes are known and measured
# (`docs/how-to/twin.md`, *What the twin does not model*): pauses of the JVMs are spread over their work
# instead of stopping all of it, which shortens the tail, and the CPU per operation of the machine changes
# by up to a fifth from hour to hour. Each percent of CPU is one to four percent of latency. The label of
# the prediction says which calibration it used; `tweetlab calibrate` makes one for your machine.
#
# ## Exercises
#
# 1. Move the loss to second 50 (`faults="[{at: 50 s, kind: cache_loss, target: redis}]"`). What does Tweetlab
#    answer, and why is that better than a pass?
# 2. Double the load with `api.simulate("first_run", **{"workload.stages.0.rate": 80})`. By which factor do
#    CPU and p99 grow?
# 3. Pull every author: `push_limit=0`. Which processes work more, which less? Is the loss still visible?
#
# Answers: `notebooks/answers/01_first_run.md`. Next: `02_littles_law_and_the_knee`.

# %%
# Your cell.
