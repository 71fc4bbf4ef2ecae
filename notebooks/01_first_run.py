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
# *What does it cost the users when the cache is lost?* Here nothing is started: no server, no Java, no root. The twin plays
# the scenario `first_run` through a model of the machine. Read a cell, guess, then run it.

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
# ## Who follows whom, and who asks for what
#
# Both are drawn from the seed in the file. A real run draws the very same: the same graph, the same arrivals, to the nanosecond.

# %%
graph = population.graph_of(scenario.population, scenario.seed)
tape = workload.draw(scenario, graph)
followers = graph.follower_counts()[1:]
median = int(pd.Series(followers).median())
print(f"{graph.users} users, {graph.edges} follows; followers: median {median}, most {followers.max()}")
limit = scenario.policies.fanout.push_limit
print(f"push_limit {limit}: {(followers > limit).sum()} authors are pulled by their readers, everybody else is pushed")
pd.Series(tape.planned(), name="operations").to_frame()

# %% [markdown]
# ## What the model was told
#
# A calibration: CPU per unit of work at each process, delays without CPU, CPU that is used by nobody's request. Each number says
# where it is from. The shipped one runs anywhere; one made on your machine (`make demo` does it) is the one to trust there.

# %%
told = calibration.default()
print("Label:", told.label)
print("Cores:", told.cores, " background:", round(sum(told.background_cores.values()), 3), "cores")
units = pd.DataFrame({name: vars(cost) for name, cost in told.units.items()}).T
units.loc[["gateway-1.home", "timelines-1.home", "redis-1.home_read", "cassandra-1.author_read", "cassandra-1.append"],
          ["base_us", "per_item_us", "source"]]

# %% [markdown]
# ## Guess before you look
#
# At 30 s Redis loses everything. A home read then finds no timeline: it reads whom the viewer follows, and the list of each of
# them, from the stores. How much slower is the first read after the loss? How many seconds until most reads hit again?

# %%
answer = twin.run(scenario, told, tape, graph, replications=3)
document = finish.parts(answer.facts).document
print(f"{document['verdict']}: {document['decided_by']}")
pd.DataFrame(document["objectives"])[["text", "verdict", "value", "bound", "n"]]

# %% [markdown]
# ## Where the reads came from
#
# `hit`: the timeline stood in the cache. `rebuild`: it was built first. Look at the seconds around 30.

# %%
history = answer.facts.history
home = history[history["route"] == "home"].copy()
home["second"] = ((home["due_ns"] - answer.facts.windows.start_ns) / 1e9).astype(int)
home["ms"] = (home["done_ns"] - home["due_ns"]) / 1e6
home["from"] = home["source"].str.split(",").str[0]
around = home[home["second"].between(27, 40)]
around.groupby("second").agg(reads=("ms", "size"), rebuilt=("from", lambda s: f"{(s == 'rebuild').mean():.0%}"),
                             p50_ms=("ms", "median"), worst_ms=("ms", "max")).round(1)

# %% [markdown]
# The cache does not come back at once: each viewer pays once, at his own next visit. The frequent ones come soon, the rare ones
# late: that is why the share of rebuilds falls fast at first and then slowly. Author lists are shared, so the second viewer who
# follows the same author finds his list already there: the first seconds after the loss are the dearest for Cassandra.

# %%
cpu = answer.facts.series[answer.facts.series["name"] == "cpu_cores"].copy()
cpu["phase"] = pd.cut(cpu["t_s"], [10, 29, 33, 60], labels=["before", "just after the loss", "later"])
table = cpu.groupby(["node", "phase"], observed=True)["value"].mean().unstack()
table.loc[["cassandra-1", "redis-1", "timelines-1", "gateway-1"]].round(3)

# %% [markdown]
# ## The report's own figures
#
# The twin's record has the shape of a real run's, so the report draws it with the same code.

# %%
run = finish.finish(Path(tempfile.mkdtemp()), answer.facts)
style = f"<style>{(render.TEMPLATES / 'report.css').read_text()}</style>"
for figure in charts.draw(view.View(run))[:2]:
    display(HTML(f"{style}<h3>{figure.title}</h3>{figure.svg}<p>{figure.caption}</p>"))

# %% [markdown]
# ## How sure is it?
#
# Two doubts, kept apart. *Luck*: other demands could have been drawn; the t-interval over replications tells how much that moves
# a number. *Ignorance*: the calibration's numbers may be wrong for your machine; only a measured run can tell, which is what
# `tweetlab run first_run` does: it puts the measurement beside this prediction, with the error of each percentile.

# %%
rows = {route: {name: f"{mean:.2f} ± {half:.2f}" for name, (mean, half) in parts.items()}
        for route, parts in answer.intervals.items()}
display(pd.DataFrame(rows).T[["mean", "p50", "p95", "p99"]])
print("Little, flow balance and utilisation hold:", answer.laws["hold"])

# %% [markdown]
# ## Change one thing
#
# Twice the load, then four times. The table is the whole story of a queue: utilisation goes up evenly, waiting does not.

# %%
def at(rate_per_s: float) -> dict[str, float]:
    asked = scenario.at_rate(rate_per_s, 20.0)
    told_ = twin.run(asked, told, workload.draw(asked, graph), graph, replications=1)
    numbers = finish.parts(told_.facts).document["summary"]
    cores = sum(node["core_s"] for node in numbers["cpu"].values()) / 20.0
    latency = numbers["routes"]["home"]["steady"]["response_ms"]
    return {"busy cores": cores, "home p50 ms": latency["p50"], "home p99 ms": latency["p99"]}


pd.DataFrame({f"{rate}/s": at(rate) for rate in (60, 120, 240)}).T.round(2)

# %% [markdown]
# Next: `tweetlab run first_run` asks the real system, and `docs/how-to/twin.md` tells how to read and to mistrust the model.
