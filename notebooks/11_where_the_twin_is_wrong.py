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
# # 11. Where the twin is wrong, and calibrating your own
#
# **Question.** A model says p99 = 38 ms. How do you find out whether to believe it, and which part is wrong
# if not?

# %%
import numpy as np
import pandas as pd

from sim import calibration
from tweetlab import api
from tweetlab.api import course, figures

# %% [markdown]
# ## A prediction that it has not seen
#
# `flash_crowd` is a run that the calibration does not come from: another graph, another mix, a burst. Your
# prediction first: by how many percent is the twin's p50 of home reads off in the burst, and its p99?
# (Negative: too fast.)

# %%
middle = course.predict("flash_crowd: error of the predicted p50 of home, %", None)
tail = course.predict("flash_crowd: error of the predicted p99 of home, %", None)
middle, tail

# %%
measured = api.load("notebooks/data/flash_crowd")
predicted = api.simulate("notebooks/data/flash_crowd/scenario.yaml", replications=2, calibration=calibration.DEFAULT)
print(predicted.label)
for remark in predicted.remarks:
    print("-", remark)


def in_burst(run, route="home"):
    """Return the responses (ms) of a route while the load is 320/s."""
    rows = run.history().query("route == @route and outcome == 'ok'")
    return rows[rows["due_s"].between(24, 50)]["response_ms"].to_numpy()


rows = {}
for route in ("home", "user_tweets", "like"):
    real, model = in_burst(measured, route), in_burst(predicted, route)
    rows[route] = {"n": len(real), **{f"p{q} error, %": 100 * (np.quantile(model, q / 100) / np.quantile(real, q / 100) - 1)
                                     for q in (50, 95, 99)}}
errors = pd.DataFrame(rows).T
print(course.compare(middle, errors.loc["home", "p50 error, %"], "the comparison"))
print(course.compare(tail, errors.loc["home", "p99 error, %"], "the comparison"))
errors.round(0)

# %% [markdown]
# ## Which part is wrong? Take the error apart
#
# A latency can be wrong because the CPU is wrong (the calibration) or because the structure is (the model).
# CPU is measured per process, so compare that first: in a queue at 75 %, one percent more CPU is up to four
# percent more latency.

# %%
cores = pd.DataFrame({"measured": measured.cpu(by_second=True).loc[24:49].mean(),
                      "predicted": predicted.cpu(by_second=True).loc[24:49].mean()}).dropna()
cores.index = cores.index.str.removesuffix("_cores")
cores["error, %"] = 100 * (cores["predicted"] / cores["measured"] - 1)
cores = cores.sort_values("measured", ascending=False)
print(f"all processes: {100 * (cores['predicted'].sum() / cores['measured'].sum() - 1):+.1f} %")
cores.head(8).round(3)

# %% [markdown]
# ## Remove the CPU error: give the twin the measured speed
#
# Scale every process' cost by what it really used. What remains is structure.

# %%
import tempfile
from pathlib import Path

factors = (cores["measured"] / cores["predicted"]).fillna(1.0).clip(0.5, 2.0).to_dict()
oracle = Path(tempfile.mkdtemp()) / "oracle.json"
calibration.default().scaled(factors).save(oracle)
structure = api.simulate("notebooks/data/flash_crowd/scenario.yaml", replications=2, calibration=oracle)
table = pd.DataFrame({name: {f"p{q}_ms": np.quantile(in_burst(run), q / 100) for q in (50, 90, 95, 99)}
                      for name, run in (("measured", measured), ("predicted", predicted), ("with measured CPU", structure))})
table.round(1)

# %%
figure, ax = figures.axes("Home reads in the burst", "response time, ms", "share slower")
for name, run in (("measured", measured), ("predicted", predicted), ("with measured CPU", structure)):
    ordered = np.sort(in_burst(run))
    ax.plot(ordered, 1 - np.arange(1, len(ordered) + 1) / len(ordered), label=name)
ax.set_yscale("log")
ax.set_ylim(1e-3, 1)
figures.legend(ax)
figure

# %% [markdown]
# ## What it does not know
#
# `docs/how-to/twin.md` lists it: wake-up preemption, pauses of the JVMs, Elasticsearch's merges, scaled
# workers, clusters. The list is part of the model. A prediction outside the calibrated load says so in
# `remarks`; one with the calibration of another machine is labelled and never scored.
#
# ## Calibrating your own
#
# ```sh
# bin/tweetlab calibrate            # about 13 minutes on an idle machine, once
# bin/tweetlab calibrate --show     # what it is, its age, its residuals
# bin/tweetlab validate             # two loads that it has not seen: ten minutes
# ```
#
# What a calibration holds, with the bounds of each number and whether the experiment could determine it at
# all:

# %%
known = calibration.default()
units = pd.DataFrame({name: vars(cost) for name, cost in known.units.items()}).T
print(f"{known.label}: {len(units)} units of work, {int((~units['identified'].astype(bool)).sum())} not determined; "
      f"the rungs scatter by {100 * known.spread:.0f} % of CPU")
units.loc[["gateway-1.home", "timelines-1.home", "redis-1.home_read", "cassandra-1.author_read", "cassandra-1.append"],
          ["base_us", "per_item_us", "low_us", "high_us", "identified"]]

# %% [markdown]
# ## The gap, explained
#
# Compare the last two columns of the table above: the step from *predicted* to *with measured CPU* is the
# calibration's error (the machine was slower or faster that day); the step from there to *measured* is the
# model's. A tail that is too short with the right CPU means that something stops many requests at once,
# which a sum of independent services does not have.
#
# ## Exercises
#
# 1. Use the oracle on a quieter part of the run (before 20 s). Is the structure error larger or smaller?
#    Why?
# 2. Wrong on purpose: set `cost.timelines-1` to 0.5 in a sweep. Which figures reveal it, which do not?
# 3. Which question of the catalog would you answer with this twin today, and for which would you insist on
#    a measurement?
#
# Answers: `notebooks/answers/11_where_the_twin_is_wrong.md`.

# %%
# Your cell.
