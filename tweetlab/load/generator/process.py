"""The load process: Locust plays a tape. Started by `driver`, never by hand.

stdin: one line, the job as JSON; then `stop` or end of file ends the load early. stdout: one JSON object per
line: `started`, then `second` each second and `note` for lines to show, finally `ended` with the generator's
health. Results are files.
"""

from __future__ import annotations

import sys

_JOB = sys.stdin.buffer.readline() if __name__ == "__main__" else b""  # before gevent takes over the streams

import os  # noqa: E402
import resource  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import orjson  # noqa: E402
from gevent import os as gevent_os  # noqa: E402
from locust import FastHttpUser, task  # noqa: E402
from locust.env import Environment  # noqa: E402

from scenarios import workload  # noqa: E402
from scenarios.world import seeded_tweets  # noqa: E402
from system.kernel import dns  # noqa: E402
from system.kernel.policies import RetryKnobs  # noqa: E402
from tweetlab.load.generator import player, probes, realtime, recorder, tokens, wire  # noqa: E402

LEAD_NS = 700_000_000  # from `started` to the first due time; the caller then aligns faults and samplers
CONNECTIONS = 4000  # maximum in use; further requests wait for a connection
Json = dict[str, Any]


class Traffic(FastHttpUser):
    """The only Locust user: it acts for all users of the tape, each request with its own token."""

    abstract = False
    session: Session

    @task
    def play(self) -> None:
        """Play the whole tape, then end Locust."""
        try:
            self.session.run()
        finally:
            self.environment.runner.quit()


class Session:
    """One run of the load, from the job to the last flush."""

    def __init__(self, job: Json) -> None:
        self.job = job
        folder = Path(job["out_dir"])
        self.tape = workload.load(folder / "tape.npz")
        self.recorder = recorder.Recorder(folder)
        self.tokens = tokens.Tokens(job["jwt_secret"])
        self.names = dns.Resolver(job["name_servers"]) if job.get("name_servers") else None
        self.wire = wire.Wire(job["address"], CONNECTIONS, job["timeout_s"], job.get("canary", "").encode(), self.names)
        self.player = player.Player(self.tape, self.wire, self.recorder, self.tokens, RetryKnobs(**job["retry"]),
                                    job["run"], job["region"])
        self.delivery: probes.Delivery | None = None
        if job["probes"]:
            followers = probes.Followers(folder / "followers.npz")
            self.delivery = probes.Delivery(followers, self.wire, self.tokens, self.recorder, self.tape.seed)
            self.player.on_acked.append(self.delivery.acknowledged)
        self.tokens.sign(set(self.tape.user.tolist()))
        seeded_tweets.vocabulary()  # built once, before the clock starts: it takes a tenth of a second
        realtime.raise_file_limit()
        realtime.freeze_collector()
        self.sched = realtime.prefer()

    def run(self) -> None:
        """Play, drain, flush, report."""
        start_ns = self.player.start_ns = time.monotonic_ns() + LEAD_NS
        load_ns = int(self.job["load_s"] * 1e9)
        say({"event": "started", "start_ns": start_ns, "wall_ms": (time.time_ns() + LEAD_NS) // 1_000_000, "sched": self.sched})
        cpu_before, began_ns = time.process_time(), time.monotonic_ns()
        null = probes.Null(self.wire, self.recorder, start_ns, 2 * len(self.tape))
        background = [gevent.spawn(self._listen)]
        if self.names is not None:
            background.append(gevent.spawn(self._resolve, self.names))
        if self.job["null_route"]:
            background.append(gevent.spawn(null.run, start_ns + load_ns))
        ticking = gevent.spawn(self._tick, start_ns)
        self.player.play()
        while time.monotonic_ns() < start_ns + load_ns and not self.player.stopped.is_set():
            self.player.stopped.wait(timeout=0.05)  # the load lasts as planned even if the last request is early
        self.player.drain(self.job["timeout_s"] + 1)
        if self.delivery is not None:
            self.delivery.pool.join(timeout=0 if self.player.stopped.is_set() else probes.GIVE_UP_S + 1)
        share = (time.process_time() - cpu_before) / max(1e-9, (time.monotonic_ns() - began_ns) / 1e9)
        gevent.killall([*background, ticking])
        self.recorder.flush()
        self._say_errors(start_ns, float("inf"))
        say({"event": "ended", **self._health(share, start_ns)})

    def _listen(self) -> None:
        """End the load when the caller writes `stop` or exits."""
        gevent_os.make_nonblocking(0)
        gevent_os.nb_read(0, 64)
        self.player.stop()

    @staticmethod
    def _resolve(known: dns.Resolver) -> None:
        """Refresh DNS once per TTL in the background: no request waits for it."""
        while True:
            known.refresh()
            gevent.sleep(dns.TTL_S)

    def _tick(self, start_ns: int) -> None:
        cpu_s, number, planned = time.process_time(), 0, 0
        while True:
            number += 1
            while (wait_ns := start_ns + number * 1_000_000_000 - time.monotonic_ns()) > 0:
                gevent.sleep(wait_ns / 1e9)
            self.recorder.flush()
            second, cpu_before = self.recorder.next_second(), cpu_s
            planned_before, planned = planned, self._planned(start_ns)
            cpu_s = time.process_time()
            share = (cpu_s - cpu_before) / max(1e-9, (time.monotonic_ns() - second.began_ns) / 1e9)
            added = planned - planned_before
            say({"event": "second", "t_s": number - 1, "planned": added, "sent": second.sent,
                 "ok": second.outcomes["ok"], "fail": second.outcomes["fail"], "info": second.outcomes["info"],
                 "unsent": second.unsent, "requests": second.requests, "in_flight": self.recorder.in_flight,
                 "start_lag_ms_p99": recorder.rank(second.lag_ns, 0.99) / 1e6,
                 "cpu_share": share, "routes": second.percentiles_ms()})
            self._say_errors(start_ns, time.monotonic())

    def _say_errors(self, start_ns: int, now_s: float) -> None:
        """Report connection errors, one line per burst; times are from the start of the load."""
        for burst in self.wire.errors.due(now_s):
            say({"event": "note", "text": burst.line(lambda at_s: f"{at_s - start_ns / 1e9:.1f} s")})

    def _planned(self, start_ns: int) -> int:
        """Return the number of operations due by now; never fewer than were sent."""
        return int(self.tape.due_ns.searchsorted(time.monotonic_ns() - start_ns, side="right"))

    def _health(self, cpu_share: float, start_ns: int) -> Json:
        lags = self.recorder.lags_ns
        return {"start_lag_ms": {name: recorder.rank(lags, share) / 1e6 for name, share in
                                 (("p50", 0.5), ("p99", 0.99), ("max", 1.0))},
                "cpu_share": cpu_share, "sched": self.sched, "walked": self.player.walked, "planned": len(self.tape),
                "stopped_early": self.player.stopped.is_set(), "retries_refused": self.player.budget.refused,
                "probe_pairs": self.delivery.pairs if self.delivery else 0, "start_ns": start_ns,
                "scanned": self.wire.scanned, "leaks": self.wire.leaks,
                "max_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def say(message: Json) -> None:
    """Write a message to the caller.

    A caller that exited is noticed on stdin; the files are still written.
    """
    try:
        os.write(1, orjson.dumps(message) + b"\n")
    except BrokenPipeError:
        pass


def main() -> None:
    """Play the job from stdin."""
    job = orjson.loads(_JOB)
    Traffic.session = Session(job)
    environment = Environment(user_classes=[Traffic], host=f"http://{job['address']}", catch_exceptions=False)
    runner = environment.create_local_runner()
    runner.start(1, spawn_rate=1)
    runner.greenlet.join()


if __name__ == "__main__":
    main()
