"""The load and the workers: operations, probes and consumer groups, as `sim.replication`, `sim.probes` and `sim.queues`."""

from __future__ import annotations

import math

from sim.compiled.events import Table, after, append, at_deadline, free, mixed, new, ns, quantile, soon, take, uniform, urgent
from sim.compiled.jit import inline, jit
from sim.compiled.jobs import longest_s, new_context, new_job, refilled, spent
from sim.compiled.layout import *
from sim.compiled.model import CLIENT_ATTEMPTS, CLIENT_TOKENS, CREDIT, CREDIT_AT, RETRY_BASE, RETRY_BUDGET, RETRY_MOST, ROUTES
from sim.compiled.world import U_FOLLOWERS, W_STAMP

OK, GATEWAY_TIMEOUT = 200, 504
NS, OCTAVE, BUCKETS = 1_000_000_000, 8, 8 * 48
"""Histograms of responses have eight buckets for each doubling of the time."""
UNCERTAIN_FROM = 500
JITTER = 1 << 40          # as in sim.replication
PAIRS_PER_S, SAVED_S, MOST_A_POST, NULL_PER_S = 6.0, 2.0, 12, 10.0  # as in sim.probes
FIRST_PAUSE_NS, LONGEST_PAUSE_NS, GIVE_UP_NS = 20_000_000, 250_000_000, 10_000_000_000
PAUSE_NS = 500_000_000    # as in sim.queues
HOME_ROUTE, NULL_ROUTE, BATCH_ROUTE = ROUTES.index("home"), ROUTES.index("null"), ROUTES.index("batch")
CREATES = (ROUTES.index("post"), ROUTES.index("reply"))


# ---- operations: sim.replication --------------------------------------------------------------------------

@inline
def start_attempt(rows: Table, contexts: Table, heap: Table, rings: Table, routes: Table, operation: int) -> None:
    """Send an attempt, and set its deadline."""
    ctx = rows[operation, O_CONTEXT]
    rows[0, OPERATIONS] += 1
    contexts[ctx, C_ORDER] = rows[0, OPERATIONS]
    rows[0, STAMP] += 1
    rows[operation, O_TOKEN], rows[operation, O_TRIGGERED], rows[operation, O_STATUS] = rows[0, STAMP], 0, -1
    job = new_job(rows, ctx, contexts[ctx, C_KEY], routes[contexts[ctx, C_ROUTE], ROUTE_CODE], E_OPERATION, operation)
    rows[job, J_MARK] = rows[0, STAMP]
    urgent(rows, rings, START, job)
    if rows[0, DEADLINE_NS]:
        at_deadline(rows, heap, rings, operation, rows[0, STAMP])


@inline
def start_operation(rows: Table, contexts: Table, heap: Table, rings: Table, routes: Table, knobs: Table, operation: int) -> None:
    """Start the first attempt of an operation."""
    knobs[CLIENT_TOKENS] = refilled(knobs[CLIENT_TOKENS], knobs[RETRY_BUDGET])
    start_attempt(rows, contexts, heap, rings, routes, operation)


@inline
def operation_key(rows: Table, index: int, attempt: int) -> int:
    """Return the key of an attempt."""
    return mixed(mixed(rows[0, OPERATION_KEY], index), attempt)


@inline
def arrive(rows: Table, contexts: Table, rings: Table, index: int, route: int, user: int, target: int, pages: int) -> None:
    """Create an operation that starts now."""
    ctx = new_context(rows, contexts, index, route, user, target, rows[0, NOW], operation_key(rows, index, 0))
    contexts[ctx, C_PAGES] = pages
    operation = new(rows)
    rows[operation, O_CONTEXT] = ctx
    urgent(rows, rings, OPERATION_START, operation)


@inline
def is_uncertain(status: int) -> bool:
    """Return whether an operation with this status may have taken effect: sim.outcomes.of_status is INFO."""
    if 200 <= status < 300 or status == 1000:
        return False
    return not (400 <= status < 500 and status != 408 and status != 409 and status != 499)


@inline
def resume_operation(rows: Table, contexts: Table, heap: Table, rings: Table, users: Table, edges: Table, knobs: Table,
                     routes: Table, responses: Table, operation: int) -> None:
    """An attempt has its response, or its deadline has passed."""
    ctx = rows[operation, O_CONTEXT]
    status = rows[operation, O_STATUS]
    contexts[ctx, C_DONE] = rows[0, NOW]
    contexts[ctx, C_ENDED] = 1 if status >= 0 or routes[contexts[ctx, C_ROUTE], ROUTE_IS_READ] else 0
    status = GATEWAY_TIMEOUT if status < 0 else status if status else OK
    contexts[ctx, C_STATUS] = status
    if responses.shape[0]:
        took_ns = max(rows[0, NOW] - contexts[ctx, C_DUE], 1)
        responses[contexts[ctx, C_ROUTE], contexts[ctx, C_DUE] // NS, int(OCTAVE * math.log2(took_ns))] += 1
    rows[0, STAMP] += 1
    rows[operation, O_TOKEN] = rows[0, STAMP]
    attempt = contexts[ctx, C_ATTEMPT] + 1
    if is_uncertain(status) and attempt < int(knobs[CLIENT_ATTEMPTS]):
        left = spent(knobs[CLIENT_TOKENS])
        if left >= 0.0:
            knobs[CLIENT_TOKENS] = left
            index = contexts[ctx, C_INDEX]
            again = new_context(rows, contexts, index, contexts[ctx, C_ROUTE], contexts[ctx, C_USER], contexts[ctx, C_TARGET],
                                contexts[ctx, C_DUE], operation_key(rows, index, attempt))
            contexts[again, C_ATTEMPT], contexts[again, C_PAGES] = attempt, contexts[ctx, C_PAGES]
            rows[operation, O_CONTEXT] = again
            pause_s = longest_s(attempt, knobs[RETRY_BASE], knobs[RETRY_MOST]) * uniform(contexts[again, C_KEY], JITTER)
            after(rows, heap, rings, ns(pause_s), OPERATION_RETRY, operation, 0)
            return
    if status == OK and (contexts[ctx, C_ROUTE] == CREATES[0] or contexts[ctx, C_ROUTE] == CREATES[1]):
        acknowledged(rows, contexts, rings, users, edges, knobs, ctx)
    elif status == OK and contexts[ctx, C_PAGES] == 2:
        arrive(rows, contexts, rings, rows[0, PLANNED] + contexts[ctx, C_INDEX], contexts[ctx, C_ROUTE], contexts[ctx, C_USER],
               contexts[ctx, C_TARGET], 0)
    free(rows, operation)


# ---- probes: sim.probes -----------------------------------------------------------------------------------

@jit
def acknowledged(rows: Table, contexts: Table, rings: Table, users: Table, edges: Table, knobs: Table, ctx: int) -> None:
    """Poll some followers of the author of an acknowledged tweet, within the budget of pairs."""
    now_s, author = rows[0, NOW] / 1e9, contexts[ctx, C_USER]
    knobs[CREDIT] = min(knobs[CREDIT] + (now_s - knobs[CREDIT_AT]) * PAIRS_PER_S, PAIRS_PER_S * SAVED_S)
    knobs[CREDIT_AT] = now_s
    many = users[author, U_FOLLOWERS + 1]
    count = min(MOST_A_POST, int(knobs[CREDIT]), many)
    knobs[CREDIT] -= count
    key = mixed(contexts[ctx, C_KEY], 1 << 32)
    first = 0
    for number in range(count):
        most = many - count + number
        place = int(uniform(key, number) * (most + 1))
        one = first
        while one:
            if rows[one, R_ORDER] == place:
                place = most
                break
            one = rows[one, NEXT]
        pair = new(rows)
        rows[pair, NEXT] = first
        first = pair
        rows[pair, R_ORDER] = place
        rows[pair, R_TWEET], rows[pair, R_FOLLOWER] = contexts[ctx, C_TWEET], edges[users[author, U_FOLLOWERS] + place]
        rows[pair, R_KEY] = mixed(key, count + number)
        urgent(rows, rings, PAIR_START, pair)


@jit
def start_pair(rows: Table, contexts: Table, rings: Table, routes: Table, pair: int) -> None:
    """Start to poll one follower."""
    rows[pair, R_ACKED] = rows[pair, R_BEFORE] = rows[0, NOW]
    rows[pair, R_PAUSE], rows[pair, R_POLLS], rows[pair, R_ORDER] = FIRST_PAUSE_NS, 0, 0
    poll_pair(rows, contexts, rings, routes, pair)


@jit
def poll_pair(rows: Table, contexts: Table, rings: Table, routes: Table, pair: int) -> None:
    """Read the home page of a follower."""
    ctx = new_context(rows, contexts, -1, HOME_ROUTE, rows[pair, R_FOLLOWER], 0, rows[0, NOW],
                      mixed(rows[pair, R_KEY], rows[pair, R_POLLS]))
    rows[pair, R_CONTEXT] = ctx
    urgent(rows, rings, START, new_job(rows, ctx, contexts[ctx, C_KEY], routes[HOME_ROUTE, ROUTE_CODE], E_PAIR, pair))


@jit
def polled_pair(rows: Table, contexts: Table, heap: Table, rings: Table, pair: int, status: int) -> None:
    """Handle the page that a follower got."""
    ctx, now = rows[pair, R_CONTEXT], rows[0, NOW]
    shown = False
    for place in range(contexts[ctx, C_PAGED] if status == 0 else 0):
        shown = shown or contexts[ctx, C_PAGE + place] == rows[pair, R_TWEET]
    if shown or now + rows[pair, R_PAUSE] - rows[pair, R_ACKED] > GIVE_UP_NS:
        rows[0, PAIRS] += 1
        rows[pair, R_ORDER] = rows[0, PAIRS]
        rows[pair, R_SEEN] = now if shown else -1
        rows[pair, R_GAP] = now - rows[pair, R_BEFORE] if shown else 0
        append(rows, 0, SEEN_PAIRS, pair)
        return
    if status == 0:
        rows[pair, R_BEFORE] = contexts[ctx, C_DUE]
    after(rows, heap, rings, rows[pair, R_PAUSE], PAIR_POLL, pair, 0)
    rows[pair, R_PAUSE] = min(2 * rows[pair, R_PAUSE], LONGEST_PAUSE_NS)
    rows[pair, R_POLLS] += 1


@jit
def null_due(rows: Table, contexts: Table, heap: Table, rings: Table, number: int, until_s: float) -> None:
    """Request the null route, and again a tenth of a second later."""
    if number / NULL_PER_S >= until_s:
        return
    ctx = new_context(rows, contexts, number, NULL_ROUTE, 0, 0, rows[0, NOW], mixed(rows[0, NULL_KEY], number))
    urgent(rows, rings, NULL_START, ctx)
    after(rows, heap, rings, ns(1.0 / NULL_PER_S), NULL_DUE, number + 1, 0)


@jit
def start_null(rows: Table, contexts: Table, rings: Table, routes: Table, ctx: int) -> None:
    """Send a request of the null route."""
    urgent(rows, rings, START, new_job(rows, ctx, contexts[ctx, C_KEY], routes[NULL_ROUTE, ROUTE_CODE], E_NULL, ctx))


# ---- fleets and flights -----------------------------------------------------------------------------------

@inline
def choose(rows: Table, fleet: int) -> int:
    """Return the instance for a request: the one with the fewest inside. sim.fleet.Fleet.enter."""
    many, first = rows[fleet, S_COUNT], rows[fleet, S_FIRST]
    if many == 1:
        return first
    chosen, least = 0, 0
    for number in range(many):
        instance = rows[fleet, S_FIRST + number]
        if rows[instance, I_OPEN] and not rows[rows[instance, I_PROCESS], N_DOWN]:
            seats = rows[instance, I_SEATS]
            inside = rows[seats, P_PLACES] - rows[seats, P_FREE] + rows[seats, P_WAITING]
            if not chosen or inside < least or (inside == least and rows[instance, I_TURN] < rows[chosen, I_TURN]):
                chosen, least = instance, inside
    if not chosen:
        chosen = first
    rows[fleet, S_TURN] += 1
    rows[chosen, I_TURN] = rows[fleet, S_TURN]
    return chosen


@jit
def board(rows: Table, flight: int, job: int) -> None:
    """Let a job wait for a flight."""
    waiter = new(rows)
    rows[waiter, WAITER_JOB] = job
    append(rows, flight, Y_QUEUE, waiter)


@jit
def landed(rows: Table, rings: Table, flight: int) -> None:
    """Give the result of a flight to all that wait for it, one after the other."""
    waiter = rows[flight, Y_QUEUE]
    while waiter:
        following = rows[waiter, NEXT]
        rows[waiter, WAITER_STATUS] = rows[flight, Y_STATUS]
        urgent(rows, rings, RESULT, waiter)
        waiter = following
    free(rows, flight)


@jit
def publish_batch(rows: Table, contexts: Table, rings: Table, routes: Table, batch: int) -> None:
    """Append the events of a batch to their topics."""
    one = contexts[batch, C_BATCH]
    for _ in range(contexts[batch, C_BATCHED]):
        route = contexts[one, C_ROUTE]
        publish(rows, contexts, rings, routes[route, ROUTE_TOPIC], one, route, contexts[one, C_USER], contexts[one, C_TARGET],
                mixed(contexts[one, C_KEY], 0))
        one = contexts[one, C_NEXT]


# ---- poll loops: sim.queues and sim.consumers --------------------------------------------------------------

@jit
def publish(rows: Table, contexts: Table, rings: Table, topic: int, source: int, route: int, user: int, target: int,
            key: int) -> None:
    """Append an event to the poll loops of a topic, each with a context of its own."""
    for number in range(rows[topic, TOPIC_LOOPS]):
        loop = rows[topic, TOPIC_FIRST + number]
        event = new_context(rows, contexts, contexts[source, C_INDEX], route, user, target, rows[0, NOW], mixed(key, number))
        contexts[event, C_TWEET], contexts[event, C_TOPIC] = contexts[source, C_TWEET], topic
        for fleet in range(C_PAGE - C_AT):
            contexts[event, C_AT + fleet] = contexts[source, C_AT + fleet]
        if rows[loop, L_QUEUE]:
            contexts[rows[loop, L_QUEUE_TAIL], C_NEXT] = event
        else:
            rows[loop, L_QUEUE] = event
        rows[loop, L_QUEUE_TAIL] = event
        rows[loop, L_WAITS] += 1
        if not rows[loop, L_STOPPED] and not rows[loop, L_WOKEN]:
            rows[loop, L_WOKEN] = 1
            soon(rows, rings, LOOP_WAKE, loop, rows[loop, L_TURN])


@jit
def loop_top(rows: Table, contexts: Table, heap: Table, rings: Table, laws: Table, tweets: Table, loop: int) -> None:
    """Poll again, or wait for an event."""
    if not rows[loop, L_QUEUE]:
        rows[loop, L_IDLE], rows[loop, L_WOKEN] = 1, 0
    else:
        loop_woken(rows, contexts, heap, rings, laws, tweets, loop)


@jit
def loop_woken(rows: Table, contexts: Table, heap: Table, rings: Table, laws: Table, tweets: Table, loop: int) -> None:
    """There are events: an idle loop sees them after the delay of its long poll."""
    if rows[loop, L_IDLE]:
        rows[loop, L_POLLS] += 1
        wait_ns = ns(quantile(laws, rows[loop, L_LAW], uniform(rows[loop, L_KEY], rows[loop, L_POLLS] - 1)))
        after(rows, heap, rings, wait_ns, LOOP_POLL, loop, rows[loop, L_TURN])
    else:
        loop_gather(rows, contexts, heap, rings, tweets, loop)


@jit
def loop_gather(rows: Table, contexts: Table, heap: Table, rings: Table, tweets: Table, loop: int) -> None:
    """Wait until the last poll is long enough ago, then poll."""
    rows[loop, L_IDLE] = 0
    wait_ns = rows[loop, L_LAST] + rows[loop, L_GATHER] - rows[0, NOW]
    if rows[loop, L_LAST] >= 0 and wait_ns > 0:
        after(rows, heap, rings, wait_ns, LOOP_GATHERED, loop, rows[loop, L_TURN])
    else:
        loop_poll(rows, contexts, rings, tweets, loop)


@jit
def loop_poll(rows: Table, contexts: Table, rings: Table, tweets: Table, loop: int) -> None:
    """Take all events that wait."""
    rows[loop, L_LAST] = rows[0, NOW]
    rows[loop, L_POLLED], rows[loop, L_POLLED_COUNT] = rows[loop, L_QUEUE], rows[loop, L_WAITS]
    rows[loop, L_QUEUE] = rows[loop, L_WAITS] = 0
    rows[loop, L_BATCHED_FIRST], rows[loop, L_BATCHED_COUNT] = rows[loop, L_POLLED], rows[loop, L_POLLED_COUNT]
    if rows[loop, L_BEGIN] >= 0:
        around(rows, contexts, rings, tweets, loop, BEGIN)
    else:
        start_lanes(rows, contexts, rings, tweets, loop)


@jit
def bundle(rows: Table, contexts: Table, tweets: Table, loop: int) -> int:
    """Return one context for all events of a poll."""
    first, many = rows[loop, L_BATCHED_FIRST], rows[loop, L_BATCHED_COUNT]
    rows[loop, L_BATCHES] += 1
    key = mixed(mixed(rows[loop, L_KEY], 1 << 40), rows[loop, L_BATCHES] - 1)
    batch = new_context(rows, contexts, 0, BATCH_ROUTE, 0, 0, rows[0, NOW], key)
    contexts[batch, C_BATCH], contexts[batch, C_BATCHED], contexts[batch, C_TOPIC] = first, many, contexts[first, C_TOPIC]
    for fleet in range(C_PAGE - C_AT):
        contexts[batch, C_AT + fleet] = contexts[first, C_AT + fleet]
    if rows[contexts[first, C_TOPIC], TOPIC_DISTINCT]:
        rows[0, STAMP] += 1
        one, distinct = first, 0
        for _ in range(many):
            tweet = contexts[one, C_TWEET] if contexts[one, C_TWEET] else contexts[one, C_TARGET]
            if tweets[tweet, W_STAMP] != rows[0, STAMP]:
                tweets[tweet, W_STAMP] = rows[0, STAMP]
                distinct += 1
            one = contexts[one, C_NEXT]
        contexts[batch, C_DISTINCT] = distinct
    return batch


@jit
def around(rows: Table, contexts: Table, rings: Table, tweets: Table, loop: int, phase: int) -> None:
    """Run the work of a poll before (BEGIN) or after (COMMIT) its events."""
    batch = bundle(rows, contexts, tweets, loop)
    rows[loop, L_PHASE] = phase
    job = new_job(rows, batch, contexts[batch, C_KEY], rows[loop, L_COMMIT if phase == COMMIT else L_BEGIN], E_AROUND, loop)
    rows[job, J_MARK] = rows[loop, L_TURN]
    urgent(rows, rings, START, job)


@jit
def around_ended(rows: Table, contexts: Table, heap: Table, rings: Table, laws: Table, tweets: Table, loop: int,
                 status: int) -> None:
    """The work around the events of a poll has ended; if it failed, it is done again after a pause."""
    if status:
        after(rows, heap, rings, PAUSE_NS, LOOP_AROUND, loop, rows[loop, L_TURN])
    elif rows[loop, L_PHASE] == BEGIN:
        start_lanes(rows, contexts, rings, tweets, loop)
    else:
        loop_top(rows, contexts, heap, rings, laws, tweets, loop)


@jit
def start_lanes(rows: Table, contexts: Table, rings: Table, tweets: Table, loop: int) -> None:
    """Start a lane for each key of the polled events, or one for the whole batch."""
    rows[loop, L_SLOTS], rows[loop, L_RUNNING], rows[loop, L_WAITING] = rows[loop, L_LANES], 0, 0
    if rows[loop, L_BATCH]:
        new_lane(rows, contexts, rings, loop, bundle(rows, contexts, tweets, loop))
        return
    first_lane = 0
    event = rows[loop, L_POLLED]
    for _ in range(rows[loop, L_POLLED_COUNT]):
        contexts[event, C_LANE] = 0
        lane, last = first_lane, 0
        while lane and contexts[rows[lane, Z_HEAD], C_USER] != contexts[event, C_USER]:
            last, lane = lane, rows[lane, NEXT]
        if lane:
            tail = rows[lane, Z_HEAD]
            while contexts[tail, C_LANE]:
                tail = contexts[tail, C_LANE]
            contexts[tail, C_LANE] = event
        else:
            lane = new_lane(rows, contexts, rings, loop, event)
            if last:
                rows[last, NEXT] = lane
            else:
                first_lane = lane
        event = contexts[event, C_NEXT]


@jit
def new_lane(rows: Table, contexts: Table, rings: Table, loop: int, event: int) -> int:
    """Start a lane at its first event."""
    lane = new(rows)
    contexts[event, C_LANE] = 0
    rows[lane, Z_LOOP], rows[lane, Z_HEAD], rows[lane, Z_TURN] = loop, event, rows[loop, L_TURN]
    rows[loop, L_RUNNING] += 1
    urgent(rows, rings, LANE_START, lane)
    return lane


@jit
def start_lane(rows: Table, rings: Table, lane: int) -> None:
    """Let a lane take a slot of its loop."""
    loop = rows[lane, Z_LOOP]
    if rows[loop, L_SLOTS] > 0:
        rows[loop, L_SLOTS] -= 1
        soon(rows, rings, LANE_GO, lane, rows[lane, Z_TURN])
    else:
        append(rows, loop, L_WAITING, lane)


@jit
def handle_event(rows: Table, contexts: Table, rings: Table, lane: int) -> None:
    """Handle the first event of a lane."""
    event, loop = rows[lane, Z_HEAD], rows[lane, Z_LOOP]
    contexts[event, C_ATTEMPT] += 1
    body = rows[loop, MEMBERS + rows[contexts[event, C_TOPIC], TOPIC_NUMBER]]
    job = new_job(rows, event, mixed(contexts[event, C_KEY], contexts[event, C_ATTEMPT]), body, E_LANE, lane)
    rows[job, J_MARK] = rows[lane, Z_TURN]
    urgent(rows, rings, START, job)


@jit
def event_handled(rows: Table, contexts: Table, heap: Table, rings: Table, lane: int, status: int) -> None:
    """An event of a lane has been handled; a failed one is handled again after a pause."""
    loop = rows[lane, Z_LOOP]
    if status:
        after(rows, heap, rings, PAUSE_NS, LANE_RETRY, lane, rows[lane, Z_TURN])
        return
    rows[lane, Z_HEAD] = contexts[rows[lane, Z_HEAD], C_LANE]
    if rows[lane, Z_HEAD]:
        handle_event(rows, contexts, rings, lane)
        return
    waiting = take(rows, loop, L_WAITING)
    if waiting:
        soon(rows, rings, LANE_GO, waiting, rows[waiting, Z_TURN])
    else:
        rows[loop, L_SLOTS] += 1
    soon(rows, rings, LANE_ENDED, lane, rows[lane, Z_TURN])


@jit
def lane_ended(rows: Table, rings: Table, lane: int) -> None:
    """A lane has ended; after the last one the poll has been handled."""
    loop = rows[lane, Z_LOOP]
    free(rows, lane)
    rows[loop, L_RUNNING] -= 1
    if rows[loop, L_RUNNING] == 0:
        soon(rows, rings, LOOP_HANDLED, loop, rows[loop, L_TURN])


@jit
def poll_handled(rows: Table, contexts: Table, heap: Table, rings: Table, laws: Table, tweets: Table, loop: int) -> None:
    """All events of a poll have been handled."""
    rows[loop, L_POLLED] = rows[loop, L_POLLED_COUNT] = 0
    if rows[loop, L_COMMIT] >= 0:
        around(rows, contexts, rings, tweets, loop, COMMIT)
    else:
        loop_top(rows, contexts, heap, rings, laws, tweets, loop)


@jit
def stop_loop(rows: Table, contexts: Table, loop: int) -> None:
    """Stop a consumer: nothing of the current poll was committed, so all of it is pending again."""
    rows[loop, L_STOPPED] = 1
    rows[loop, L_TURN] += 1
    many = rows[loop, L_POLLED_COUNT]
    if many:
        last = rows[loop, L_POLLED]
        for _ in range(many - 1):
            last = contexts[last, C_NEXT]
        contexts[last, C_NEXT] = rows[loop, L_QUEUE]
        if not rows[loop, L_QUEUE]:
            rows[loop, L_QUEUE_TAIL] = last
        rows[loop, L_QUEUE] = rows[loop, L_POLLED]
        rows[loop, L_WAITS] += many
    rows[loop, L_POLLED] = rows[loop, L_POLLED_COUNT] = 0
    rows[loop, L_IDLE], rows[loop, L_WOKEN] = 1, 1


@jit
def resume_loop(rows: Table, rings: Table, loop: int) -> None:
    """Restart a consumer."""
    rows[loop, L_STOPPED] = 0
    soon(rows, rings, LOOP_WAKE, loop, rows[loop, L_TURN])
