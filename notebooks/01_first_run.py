# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The first run, on the twin
#
# *How does the loss of the cache affect users?* This notebook starts nothing: no server, no Java, no root. The digital
# twin simulates the scenario `first_run` on a model of the machine. Read a cell, predict its result, then run it.

# %%
import tempfile
from pathlib import Path

import pandas as pd
from IPython.display import HTML, display

from reports import finish
from reports.page import charts, render, view
from scenarios import loader, workload
from scenarios.world import population
from sim import calibration, twin

scenario = loader.load("first_run")
print(scenario.question)
print("Expected:", scenario.expect)

# %% [markdown]
# ## Follow graph and arrivals
#
# Both are drawn from the seed in the file. A real run draws the same graph and the same arrivals, to the nanosecond.

# %%
graph = population.graph_of(scenario.population, scenario.seed)
tape = workload.draw(scenario, graph)
followers = graph.follower_counts()[1:]
median = int(pd.Series(followers).median())
print(f"{graph.users} users, {graph.edges} follows; followers: median {median}, most {followers.max()}")
limit = scenario.policies.fanout.push_limit
print(f"push_limit {limit}: {(followers > limit).sum()} authors are pulled (fan-out on read), all others are pushed")
pd.Series(tape.planned(), name="operations").to_frame()

# %% [markdown]
# ## Calibration
#
# The service demands of the model: CPU per unit of work of each process, delays without CPU, and background CPU that
# no request causes. Each number states its source. The shipped calibration works anywhere; for your machine, trust
# one that was made there (`make demo` makes one).

# %%
calibrated = calibration.default()
print("Label:", calibrated.label)
print("Cores:", calibrated.cores, " background:", round(sum(calibrated.background_cores.values()), 3), "cores")
units = pd.DataFrame({name: vars(cost) for name, cost in calibrated.units.items()}).T
units.loc[["gateway-1.home", "timelines-1.home", "redis-1.home_read", "cassandra-1.author_read", "cassandra-1.append"],
          ["base_us", "per_item_us", "source"]]

# %% [markdown]
# ## Predict before you look
#
# At 30 s Redis loses all data. A home read is then a cache miss: it reads the viewer's followees, and the list of each
# of them, from the stores. How much slower is the first read after the loss? How many seconds until most reads hit?

# %%
prediction = twin.run(scenario, calibrated, tape, graph, replications=3)
document = finish.parts(prediction.facts).document
print(f"{document['verdict']}: {document['decided_by']}")
pd.DataFrame(document["objectives"])[["text", "verdict", "value", "bound", "n"]]

# %% [markdown]
# ## Cache hits and rebuilds
#
# `hit`: the timeline was in the cache. `rebuild`: it was rebuilt first. Look at the seconds around 30.

# %%
history = prediction.facts.history
home = history[history["route"] == "home"].copy()
home["second"] = ((home["due_ns"] - prediction.facts.windows.start_ns) / 1e9).astype(int)
home["ms"] = (home["done_ns"] - home["due_ns"]) / 1e6
home["from"] = home["source"].str.split(",").str[0]
around = home[home["second"].between(27, 40)]
around.groupby("second").agg(reads=("ms", "size"), rebuilt=("from", lambda s: f"{(s == 'rebuild').mean():.0%}"),
                             p50_ms=("ms", "median"), worst_ms=("ms", "max")).round(1)

# %% [markdown]
# The cache does not refill immediately: each viewer's next read pays for one rebuild. Frequent viewers return soon, rare
# viewers late, so the share of rebuilds falls fast at first and then slowly. Author lists are shared: for the second
# viewer of the same author, that list is a hit. The first seconds after the loss are the most expensive for Cassandra.

# %%
cpu = prediction.facts.series[prediction.facts.series["name"] == "cpu_cores"].copy()
cpu["phase"] = pd.cut(cpu["t_s"], [10, 29, 33, 60], labels=["before", "just after the loss", "later"])
table = cpu.groupby(["node", "phase"], observed=True)["value"].mean().unstack()
table.loc[["cassandra-1", "redis-1", "timelines-1", "gateway-1"]].round(3)

# %% [markdown]
# ## The figures of the report
#
# The twin's record has the same format as that of a real run, so the report draws it with the same code.

# %%
run = finish.finish(Path(tempfile.mkdtemp()), prediction.facts)
style = f"<style>{(render.TEMPLATES / 'report.css').read_text()}</style>"
for figure in charts.draw(view.View(run))[:2]:
    display(HTML(f"{style}<h3>{figure.title}</h3>{figure.svg}<p>{figure.caption}</p>"))

# %% [markdown]
# ## How certain is the prediction?
#
# There are two kinds of uncertainty. *Chance*: other service demands could have been drawn; the t-interval over the
# replications shows how much that changes a number. *Calibration*: its numbers may be wrong for your machine; only a
# measured run shows that. `tweetlab run first_run` reports the measurement with this prediction and the error of each
# percentile.

# %%
rows = {route: {name: f"{mean:.2f} ± {half:.2f}" for name, (mean, half) in parts.items()}
        for route, parts in prediction.intervals.items()}
display(pd.DataFrame(rows).T[["mean", "p50", "p95", "p99"]])
print("Little's law, flow balance and the utilization law hold:", prediction.laws["hold"])

# %% [markdown]
# ## Change one parameter
#
# Double the load, then double it again. The table shows how queues behave: utilization grows linearly, waiting time does
# not.

# %%
def at(rate_per_s: float) -> dict[str, float]:
    scaled = scenario.at_rate(rate_per_s, 20.0)
    predicted = twin.run(scaled, calibrated, workload.draw(scaled, graph), graph, replications=1)
    numbers = finish.parts(predicted.facts).document["summary"]
    cores = sum(node["core_s"] for node in numbers["cpu"].values()) / 20.0
    latency = numbers["routes"]["home"]["steady"]["response_ms"]
    return {"busy cores": cores, "home p50 ms": latency["p50"], "home p99 ms": latency["p99"]}


pd.DataFrame({f"{rate}/s": at(rate) for rate in (60, 120, 240)}).T.round(2)

# %% [markdown]
# Next: `tweetlab run first_run` runs the scenario on the real system, and `docs/how-to/twin.md` explains how to read the
# model and its limits.
