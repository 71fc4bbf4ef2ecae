"""Plays a tape: starts every operation at its due time, regardless of replies (open workload).

Runs in Locust's process.

One greenlet walks the tape and spawns one greenlet per operation: the walk never waits for a reply. An
operation that ends `info` (503 included) is retried under the client's retry policy: after a backoff with
full jitter, within the retry budget, with the same idempotency key. Each attempt is a row.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import gevent
from gevent.event import Event
from gevent.pool import Pool

from scenarios.workload import Tape
from system.kernel.policies import RetryKnobs
from system.kernel.resilience import retry
from tweetlab.load.generator import journeys, media_journey, wire
from tweetlab.load.generator.acknowledged import Ledger, Own
from tweetlab.load.generator.journeys import Op, Request, Row
from tweetlab.load.generator.recorder import Recorder
from tweetlab.load.generator.tokens import Tokens

YIELD_EVERY = 20  # operations that a late walk starts in a row before it lets other greenlets run
NS = 1e9


@dataclass
class Player:
    """Everything that an operation needs.

    `run`: eight hex digits that make this run's idempotency keys unique.
    """

    tape: Tape
    over: wire.Wire
    recorder: Recorder
    tokens: Tokens
    knobs: RetryKnobs
    run: str
    region: str
    start_ns: int = 0

    def __post_init__(self) -> None:
        tape = self.tape
        rows_to_delete = tape.target[tape.route == tape.routes.index("delete")].tolist() if "delete" in tape.routes else ()
        self.ledger = Ledger(rows_to_delete, tape.protected.tolist())
        self.budget = retry.Budget(self.knobs)
        self.stopped = Event()
        self.pool = Pool()
        self.jitter = random.Random(tape.seed)
        self.media = media_journey.Uploads(self.over, self.tokens)
        self.on_acked: list[Callable[[Own], None]] = []
        self.walked = 0

    def play(self) -> None:
        """Start every operation at its due time; return when the last one was started or `stop` was called."""
        due, route, user, target = (values.tolist() for values in (self.tape.due_ns, self.tape.route, self.tape.user,
                                                                  self.tape.target))
        second_page = self.tape.second_page.tolist()
        late_in_a_row = 0
        for row, due_ns in enumerate(due):
            due_ns += self.start_ns
            late_in_a_row = late_in_a_row + 1 if time.monotonic_ns() >= due_ns else 0
            if late_in_a_row and late_in_a_row % YIELD_EVERY == 0:
                gevent.sleep(0)
            while (wait_ns := due_ns - time.monotonic_ns()) > 0 and not self.stopped.is_set():
                gevent.sleep(wait_ns / NS)
            if self.stopped.is_set():
                return
            op = Op(row, self.tape.routes[route[row]], user[row], target[row], due_ns, self.tape.seed)
            self.pool.spawn(self._operate, op, second_page[row])
            self.walked = row + 1

    def stop(self) -> None:
        """Start no further operation."""
        self.stopped.set()

    def drain(self, timeout_s: float) -> None:
        """Wait for operations in flight; those that remain after `timeout_s` are aborted and recorded as info."""
        if not self.pool.join(timeout=timeout_s):
            self.pool.kill(exception=CutOff, block=True, timeout=5)

    def _operate(self, op: Op, second_page: bool) -> None:
        if op.route == "media":
            answer, known = self.media.journey(op, self._sent(op, 0, {}, planned=True))
            row = self._record(op, 0, answer, {"user": op.user, **known})
            self.recorder.finished(op.number, row["outcome"])
            return
        request = journeys.REQUESTS[op.route](op, self.ledger)
        if request is None:
            nothing: Row = {"user": op.user, "error": "no acknowledged tweet of this run is left to delete"}
            self._record(op, 0, wire.Answer(wire.FAIL, 0, 0, time.monotonic_ns()), nothing)
            self.recorder.finished(op.number, wire.FAIL)
            return
        row = self._attempts(op, request, planned=True)
        self.recorder.finished(op.number, row["outcome"])
        if second_page and row.get("cursor_out") and not self.stopped.is_set():
            page = journeys.home_page(op.user, journeys.second_cursor(op, row["cursor_out"]))
            follow = Op(len(self.tape) + op.number, op.route, op.user, 0, row["done_ns"], op.seed)
            self._attempts(follow, page, planned=False)

    def _attempts(self, op: Op, request: Request, planned: bool) -> Row:
        """Try until it is ok, failed for certain, or out of attempts or budget; return the last row."""
        user = request.user or op.user
        key = f"{self.run}-{op.number}" if request.method == "POST" else ""
        known = {**request.known, "user": user, **({"key": key, "body_sha": journeys.sha(request.body)} if key else {})}
        self.budget.first_try()
        attempt = 0
        while True:
            trace = f"{self.run}-{op.number}-{attempt}"
            headers = self.tokens.headers(user) + f"x-request-id: {trace}\r\n" + (
                f"content-type: application/json\r\nidempotency-key: {key}\r\n" if key else "")
            try:
                answer = self.over.exchange(request.method, request.path, headers, request.body,
                                            self._sent(op, attempt, known, planned and attempt == 0))
            except CutOff:
                answer = self._cut(op, attempt)
            row = self._record(op, attempt, answer, {**known, "trace": trace})
            if row["outcome"] == wire.OK:
                self._remember(op, request, row, user)
            retriable = row["outcome"] == wire.INFO and answer.error != CUT
            if not retriable or attempt + 1 >= self.knobs.attempts or self.stopped.is_set() or not self.budget.take():
                return row
            attempt += 1
            gevent.sleep(retry.pause_s(attempt, self.knobs, self.jitter.random()))

    def _sent(self, op: Op, attempt: int, known: Row, planned: bool) -> _BeforeSend:
        return _BeforeSend(self.recorder, op, attempt, known, planned)

    def _cut(self, op: Op, attempt: int) -> wire.Answer:
        """Return the reply of an attempt that was aborted at the end of the run."""
        sent_ns = self.recorder.sent_ns(op.number, attempt)
        return wire.Answer(wire.INFO if sent_ns else wire.FAIL, 0, sent_ns, time.monotonic_ns(), error=CUT)

    def _record(self, op: Op, attempt: int, answer: wire.Answer, known: Row) -> Row:
        row: Row = {"op": op.number, "attempt": attempt, "route": op.route, "due_ns": op.due_ns, "sent_ns": answer.sent_ns,
                    "done_ns": answer.done_ns, "outcome": answer.outcome, "status": answer.status,
                    "bytes": len(answer.body), "address": answer.address or self.over.address, "region": self.region, **known,
                    **({"error": answer.error} if answer.error else {}), **journeys.read(op.route, answer)}
        row["session"] = f"s{row['user']}"
        row["token_id"] = f"t{row['user']}"
        if attempt:
            row["retry_of"] = op.number
        if row["outcome"] != wire.OK and "error" not in row:
            row["error"] = f"HTTP {answer.status}: {answer.body[:160].decode('utf-8', 'replace')}"
        self.recorder.ended(row)
        return row

    def _remember(self, op: Op, request: Request, row: Row, user: int) -> None:
        if op.route in ("post", "reply") and "tweet_id" in row:
            own = Own(row["tweet_id"], user, op.number, row["done_ns"], request.word, row["sent_ns"])
            self.ledger.posted(own)
            for listener in self.on_acked:
                listener(own)


class CutOff(gevent.GreenletExit):  # type: ignore[misc]
    """Thrown into operations that are still in flight when the run has ended."""


CUT = "cut off at the end of the run"


class _BeforeSend:
    """Called when a connection is ready, before each request of an attempt.

    The first call writes the invoke, so that a killed process leaves an unknown outcome.
    """

    __slots__ = ("_attempt", "_invoked", "_known", "_op", "_planned", "_recorder")

    def __init__(self, recorder: Recorder, op: Op, attempt: int, known: Row, planned: bool) -> None:
        self._recorder, self._op, self._attempt, self._known, self._planned = recorder, op, attempt, known, planned
        self._invoked = False

    def __call__(self, now_ns: int) -> None:
        self._recorder.requested()
        if self._invoked:
            return
        self._invoked, op = True, self._op
        if self._planned:
            self._recorder.began(op.number, op.due_ns, now_ns)
        self._recorder.invoke(op.number, self._attempt, now_ns, {"route": op.route, "due_ns": op.due_ns, "user": op.user,
                                                                 **self._known})

