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
# # 9. Coordinated omission
#
# **Question.** A server freezes for two seconds. Your load test says p95 = 18 ms. What went wrong?
#
# Most load tools are *closed*: N virtual users each send a request, wait for the response, and send the
# next. While the server is frozen, the tool waits too. The requests that real users would have sent in the
# meantime are never sent, so their waiting is never measured. The measurement and the system have
# coordinated, and the bad seconds are omitted.

# %%
import numpy as np
import pandas as pd

from tweetlab import api
from tweetlab.api import course, figures

# %% [markdown]
# ## Your prediction
#
# A server answers in 2 ms, plan: 100 requests per second for 12 s. In the middle it freezes for 2 s. What
# are p50 and p95 of the response time as *users* see it, who do not wait for each other?

# %%
p95 = course.predict("2 s freeze in 12 s: p95 as users see it, ms", None)
p95

# %% [markdown]
# ## The simulation
#
# One function for the server, two ways to load it.

# %%
SERVICE_MS, FREEZE = 2.0, (5000.0, 7000.0)


def answered_at(sent_ms):
    """Return when a request sent at `sent_ms` is answered: 2 ms later, or 2 ms after the freeze."""
    return (FREEZE[1] if FREEZE[0] <= sent_ms < FREEZE[1] else sent_ms) + SERVICE_MS


def open_loop(rate_per_s=100.0, seconds=12.0):
    """Every request has a due time; the response time counts from it."""
    due = np.arange(0.0, 1000.0 * seconds, 1000.0 / rate_per_s)
    return np.array([answered_at(t) - t for t in due])


def closed_loop(users=20, rate_per_s=100.0, seconds=12.0):
    """Each user sends, waits, then pauses so that the rate would be right if nothing were slow."""
    pause_ms = 1000.0 * users / rate_per_s
    times = []
    for user in range(users):
        now = pause_ms * user / users
        while now < 1000.0 * seconds:
            done = answered_at(now)
            times.append(done - now)
            now = max(done, now + pause_ms)
    return np.array(times)


both = {"open": open_loop(), "closed, 20 users": closed_loop(), "closed, 4 users": closed_loop(4)}
table = pd.DataFrame({name: {"requests": len(t), **{f"p{q}_ms": np.quantile(t, q / 100) for q in (50, 90, 95, 99)}}
                      for name, t in both.items()}).round(1)
print(course.compare(p95, table.loc["p95_ms", "open"]))
table

# %% [markdown]
# The closed tools sent about 1,000 of the planned 1,200 requests and did not say so. With 4 users the
# freeze is 4 slow requests. The fewer users, the better the figures, and the worse the test. To see
# everything that users see, a closed tool needs about rate × worst latency users; here 100/s × 2 s = 200.
# Below that, whether p95 shows the freeze at all is a matter of luck.

# %%
users = [4, 20, 50, 100, 200, 400]
seen = [np.quantile(closed_loop(n), 0.95) for n in users]
figure, ax = figures.axes("p95 that a closed tool reports", "virtual users", "p95, ms")
ax.plot(users, seen, marker="o")
figures.bound(ax, table.loc["p95_ms", "open"], "what users see", figures.INK)
ax.set_xscale("log")
figure

# %% [markdown]
# ## A measured freeze
#
# `notebooks/data/zone_loss` is a run of the real system in three zones, one of which dies at 15.6 s. The
# load generator is open: arrivals are drawn before the run, and latency counts from the planned start. So
# the record holds, for every moment, how long a request that was due then had to wait.

# %%
measured = api.load("notebooks/data/zone_loss")
rows = measured.history()
rows = rows[(rows["outcome"] == "ok") & rows["route"].isin(["home", "user_tweets", "tweet", "profile"])]
figure, ax = figures.axes("Reads around the loss of a zone", "planned start, s", "response time, ms")
ax.plot(rows["due_s"], rows["response_ms"], ".", markersize=4)
figures.mark(ax, measured.windows.faults[0].start_s, "zone lost")
ax.set_yscale("log")
figure

# %% [markdown]
# What would a closed tool have reported from the same system? Let users walk through the measured record:
# each sends a request, waits as long as a request of that moment had to wait, pauses, and sends the next.

# %%
due, waits = rows["due_s"].to_numpy() * 1e3, rows["response_ms"].to_numpy()
rate = len(rows) / measured.windows.load_s


def walk(users):
    """Return the response times that a closed tool with `users` users would have recorded."""
    pause_ms, times = 1000.0 * users / rate, []
    for user in range(users):
        now = pause_ms * user / users
        while now < due[-1]:
            wait = waits[min(np.searchsorted(due, now), len(waits) - 1)]
            times.append(wait)
            now += max(wait, pause_ms)
    return np.array(times)


pd.DataFrame({name: {"requests": len(t), **{f"p{q}_ms": np.quantile(t, q / 100) for q in (50, 95, 99, 99.5)}, "max_ms": t.max()}
              for name, t in {"open (measured)": waits, "closed, 4 users": walk(4), "closed, 1 user": walk(1)}.items()}).round(1)

# %% [markdown]
# ## Open generators are not enough: measure from the due time
#
# A generator that is itself late hides waiting as well. The driver records three times: when a request was
# due, when it was sent, when it was answered. *Response* counts from due, *service* from sent; the
# difference is the generator's own delay, and a run whose generator is late is VOID.

# %%
measured.history()[["lag_ms", "service_ms", "response_ms"]].quantile([0.5, 0.95, 0.99]).round(2)

# %% [markdown]
# ## The gap, explained
#
# The simulated freeze is total, so the closed tool misses nearly all of it. The measured fault stops only
# requests that need the dead zone, and other users of the tool go on: the closed figures are less wrong,
# and still better than what users saw. The shorter and more complete the freeze, the larger the lie.
#
# ## Exercises
#
# 1. Derive p95 of the open loop by hand: which share of the requests is due in the freeze, and how are
#    their waits distributed?
# 2. Some tools "correct" for coordinated omission by adding the missing requests with decreasing waits.
#    Implement it for the closed loop with 20 users. How close does it get to the open figures?
# 3. Make the pauses of the closed loop random (exponential). Does it help?
#
# Answers: `notebooks/answers/09_coordinated_omission.md`.

# %%
# Your cell.
