"""Two probes besides the load: the time until a follower can see a tweet, and the latency that the machine itself adds.

Delivery: of the acknowledged tweets, a seeded sample of (tweet, follower) pairs is polled through the public
API until the tweet is on the follower's home page or GIVE_UP_S have passed. The null route is answered by
HAProxy itself. Runs in Locust's process.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import gevent
import numpy as np
import orjson
from gevent.pool import Pool

from tweetlab.load.generator import journeys, wire
from tweetlab.load.generator.acknowledged import Own
from tweetlab.load.generator.recorder import Recorder
from tweetlab.load.generator.tokens import Tokens

PAIRS_PER_S = 6.0  # the design requires at least 5
SAVED_S = 2.0  # unspent pairs saved for a later post
MAX_PER_POST = 12  # pairs of one tweet
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.25  # between polls; doubles
GIVE_UP_S = 10.0
NULL_PER_S = 10.0
NULL_PATH = "/null"


class Followers:
    """The follow graph at the start of the run, without edges that the run itself changes."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            self._start, self._followers = file["follower_start"], file["followers"]
            self._touched = set(zip(file["touched_follower"].tolist(), file["touched_followee"].tolist()))

    def sample(self, author: int, count: int, draw: random.Random) -> list[int]:
        """Return up to `count` followers of `author` whose edge the run does not change."""
        if author + 1 >= len(self._start):
            return []
        row = self._followers[self._start[author]:self._start[author + 1]]
        chosen = draw.sample(range(len(row)), min(count, len(row)))
        return [user for user in (int(row[index]) for index in chosen) if (user, author) not in self._touched]


class Delivery:
    """Polls followers' home pages for new tweets, PAIRS_PER_S pairs per second."""

    def __init__(self, followers: Followers, over: wire.Wire, tokens: Tokens, recorder: Recorder, seed: int) -> None:
        self._followers, self._wire, self._tokens, self._recorder = followers, over, tokens, recorder
        self._draw = random.Random(seed ^ 0x9E3779B9)
        self._credit, self._at_ns = 1.0, time.monotonic_ns()
        self.pool = Pool()
        self.pairs = 0

    def acknowledged(self, own: Own) -> None:
        """Start polling for some followers of a tweet that was just acknowledged."""
        now_ns = time.monotonic_ns()
        self._credit = min(self._credit + (now_ns - self._at_ns) / 1e9 * PAIRS_PER_S, PAIRS_PER_S * SAVED_S)
        self._at_ns = now_ns
        for follower in self._followers.sample(own.author, min(MAX_PER_POST, int(self._credit)), self._draw):
            self._credit -= 1
            self.pairs += 1
            self.pool.spawn(self._poll, own, follower)

    def _poll(self, own: Own, follower: int) -> None:
        request, pause_s = journeys.home_page(follower, ""), FIRST_PAUSE_S
        before_ns = own.sent_ns  # it cannot have been visible before it was sent
        wanted = str(own.tweet_id)
        row = {"tweet_id": own.tweet_id, "follower": follower, "acked_ns": own.acked_ns, "seen_ns": 0, "gap_ns": 0}
        while time.monotonic_ns() - own.acked_ns < GIVE_UP_S * 1e9:
            answer = self._wire.exchange(request.method, request.path, self._tokens.headers(follower))
            if answer.outcome == wire.OK:
                if _shows(answer.body, wanted):
                    row.update(seen_ns=answer.done_ns, gap_ns=answer.done_ns - before_ns)
                    break
                before_ns = answer.sent_ns  # not visible yet when this poll was sent
            gevent.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._recorder.probe(row)


def _shows(body: bytes, tweet_id: str) -> bool:
    try:
        return any(tweet["id"] == tweet_id for tweet in orjson.loads(body).get("data") or [])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return False


class Null:
    """GET /null at a constant rate; rows of route `null`, numbered from `first_op`."""

    def __init__(self, over: wire.Wire, recorder: Recorder, start_ns: int, first_op: int) -> None:
        self._wire, self._recorder, self._start_ns, self._first_op = over, recorder, start_ns, first_op
        self.pool = Pool()

    def run(self, until_ns: int) -> None:
        """Probe until `until_ns`."""
        gap_ns = round(1e9 / NULL_PER_S)
        for number in range((until_ns - self._start_ns) // gap_ns):
            due_ns = self._start_ns + number * gap_ns
            while (wait_ns := due_ns - time.monotonic_ns()) > 0:
                gevent.sleep(wait_ns / 1e9)
            self.pool.spawn(self._probe, self._first_op + number, due_ns)

    def _probe(self, op: int, due_ns: int) -> None:
        answer = self._wire.exchange("GET", NULL_PATH)
        self._recorder.ended({"op": op, "attempt": 0, "route": "null", "due_ns": due_ns, "sent_ns": answer.sent_ns,
                              "done_ns": answer.done_ns, "outcome": answer.outcome, "status": answer.status,
                              **({"error": answer.error} if answer.error else {}),
                              **({"address": answer.address} if answer.address else {})})
