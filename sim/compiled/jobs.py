"""Jobs, pools, devices and guards: what `sim.engine` and `sim.resources` do for them, on rows."""

from __future__ import annotations

from sim.compiled.events import (
    Table,
    after,
    append,
    bare,
    free,
    mixed,
    new,
    ns,
    quantile,
    soon,
    take,
    uniform,
    urgent,
)
from sim.compiled.jit import inline, jit
from sim.compiled.layout import *
from sim.compiled.model import BREAKER_FAILURES, BREAKER_OPEN, RETRY_ATTEMPTS, RETRY_BASE, RETRY_BUDGET, RETRY_MOST
from system.kernel.resilience import breaker, retry
from system.services.gateway import policy as gateway_policy

REFUSED, UNAVAILABLE, GATEWAY_TIMEOUT, OF_MESH = 1503, 503, 504, 2503  # as in sim.jobs; a test keeps them equal
SERVER_ERROR = 500
FINAL = 10_000
"""Added to a status: no retry, because the client has left."""

admit = jit(breaker.admit)
after_failure = jit(breaker.after_failure)
refilled, spent, longest_s = jit(retry.refilled), jit(retry.spent), jit(retry.longest_s)
retries = jit(gateway_policy.retries)
NONE_LEFT = retry.NONE_LEFT
IS_CLOSED, IS_OPEN = breaker.IS_CLOSED, breaker.IS_OPEN


@inline
def draw(rows: Table, job: int) -> float:
    """Return the next random number of a job."""
    rows[job, J_DRAWS] += 1
    return uniform(rows[job, J_KEY], rows[job, J_DRAWS] - 1)


@inline
def fork(rows: Table, job: int) -> int:
    """Return a key for what a job starts."""
    rows[job, J_DRAWS] += 1
    return mixed(rows[job, J_KEY], rows[job, J_DRAWS] - 1)


@inline
def new_context(rows: Table, contexts: Table, index: int, route: int, user: int, target: int, due_ns: int, key: int) -> int:
    """Return a new request, event or batch."""
    ctx = rows[0, CONTEXTS]
    rows[0, CONTEXTS] = ctx + 1
    contexts[ctx, C_INDEX], contexts[ctx, C_ROUTE], contexts[ctx, C_USER], contexts[ctx, C_TARGET] = index, route, user, target
    contexts[ctx, C_DUE], contexts[ctx, C_ARRIVED], contexts[ctx, C_KEY], contexts[ctx, C_PAGES] = due_ns, due_ns, key, 1
    contexts[ctx, C_SENT] = contexts[ctx, C_DONE] = -1
    return ctx


@inline
def new_job(rows: Table, ctx: int, key: int, pc: int, ends: int, argument: int) -> int:
    """Return a new job at `pc`; `ends`, `argument`: what happens when it ends."""
    job = new(rows)
    rows[job, J_CONTEXT], rows[job, J_KEY], rows[job, J_PC] = ctx, key, pc
    rows[job, J_ENDS], rows[job, J_ARGUMENT] = ends, argument
    return job


# ---- pools ------------------------------------------------------------------------------------------------

@inline
def acquire(rows: Table, heap: Table, rings: Table, job: int, pool: int) -> int:
    """Take a slot: 0, or the status of a full queue, or -1: the job waits."""
    if rows[pool, P_FREE] > 0:
        rows[pool, P_FREE] -= 1
        return 0
    if rows[pool, P_WAITING] >= rows[pool, P_BOUND]:
        rows[pool, P_REFUSED] += 1
        return REFUSED
    waiter = bare(rows)
    rows[waiter, 1] = job
    append(rows, pool, P_QUEUE, waiter)
    rows[pool, P_WAITING] += 1
    rows[job, J_POOL], rows[job, J_WAITER], rows[job, J_STATE] = pool, waiter, WAITS
    rows[0, STAMP] += 1
    rows[job, J_TURN] = rows[0, STAMP]
    if rows[pool, P_PATIENCE]:
        after(rows, heap, rings, rows[pool, P_PATIENCE], PATIENCE, job, rows[job, J_TURN])
    return -1


@inline
def release(rows: Table, rings: Table, pool: int, status: int) -> None:
    """Release a slot of a job that ended with `status`; the first that waits gets it."""
    if rows[pool, P_SEATS]:
        rows[pool, P_ANSWERS] += 1
        rows[pool, P_ERRORS] += status % 1000 >= SERVER_ERROR
    waiter = take(rows, pool, P_QUEUE)
    if waiter:
        job = rows[waiter, 1]
        free(rows, waiter)
        rows[pool, P_WAITING] -= 1
        if rows[job, J_STATE] == WAITS:
            soon(rows, rings, CONDITION if rows[pool, P_PATIENCE] else GRANT, job, 0)
        rows[job, J_STATE] = GRANTED
    else:
        rows[pool, P_FREE] += 1


@inline
def hold(rows: Table, job: int, pool: int) -> None:
    """Note that a job holds a slot."""
    if rows[job, J_HELD] >= MOST_HELD:
        rows[0, STOP] = OVERFLOW
        return
    rows[job, J_SLOTS + rows[job, J_HELD]] = pool
    rows[job, J_HELD] += 1


@inline
def let_go(rows: Table, job: int, pool: int) -> None:
    """Note that a job does not hold a slot any more."""
    many = rows[job, J_HELD]
    for place in range(many):
        if rows[job, J_SLOTS + place] == pool:
            for one in range(place, many - 1):
                rows[job, J_SLOTS + one] = rows[job, J_SLOTS + one + 1]
            rows[job, J_HELD] = many - 1
            return


@jit
def give_back(rows: Table, rings: Table, job: int, held: int, status: int) -> None:
    """Release the slots that a job took since it held `held` of them."""
    many = rows[job, J_HELD]
    rows[job, J_HELD] = min(held, many)
    for place in range(held, many):
        release(rows, rings, rows[job, J_SLOTS + place], status)


# ---- devices ----------------------------------------------------------------------------------------------

@jit
def start_flush(rows: Table, heap: Table, rings: Table, laws: Table, device: int) -> None:
    """Flush all writes that wait."""
    rows[device, D_FLUSHING] = rows[device, D_QUEUE]
    rows[device, D_QUEUE] = 0
    rows[device, D_DRAWS] += 1
    wait_ns = ns(quantile(laws, rows[device, D_LAW], uniform(rows[device, D_KEY], rows[device, D_DRAWS] - 1)))
    after(rows, heap, rings, wait_ns, FLUSHED, device, 0)


@jit
def flush(rows: Table, heap: Table, rings: Table, laws: Table, device: int, job: int) -> None:
    """Make a write of `job` durable."""
    waiter = bare(rows)
    rows[waiter, 1] = job
    append(rows, device, D_QUEUE, waiter)
    if not rows[device, D_FLUSHING]:
        start_flush(rows, heap, rings, laws, device)


@jit
def flushed(rows: Table, heap: Table, rings: Table, laws: Table, device: int) -> None:
    """A flush has ended: its writes are durable, and the next ones start."""
    waiter = rows[device, D_FLUSHING]
    rows[device, D_FLUSHING] = 0
    if rows[device, D_QUEUE]:
        start_flush(rows, heap, rings, laws, device)
    while waiter:
        following = rows[waiter, NEXT]
        soon(rows, rings, RESUME, rows[waiter, 1], 0)
        free(rows, waiter)
        waiter = following


# ---- joins, flights, ends ---------------------------------------------------------------------------------

@inline
def end(rows: Table, contexts: Table, rings: Table, job: int, status: int) -> None:
    """End a job with `status`: it releases its slots, and whoever waits for it learns that soon."""
    status = status % FINAL
    give_back(rows, rings, job, 0, status)
    rows[job, J_STATUS] = status
    if rows[job, J_ENDS] == E_OPERATION and rows[rows[job, J_ARGUMENT], O_TOKEN] == rows[job, J_MARK]:
        rows[rows[job, J_ARGUMENT], O_STATUS] = status
    if rows[job, J_ENDS] == E_NOTHING:
        free(rows, job)
    else:
        soon(rows, rings, ENDED, job, 0)


@jit
def child_ended(rows: Table, rings: Table, join: int, status: int) -> None:
    """Count an ended child; the parent continues when enough have succeeded, or when that is impossible."""
    if status:
        rows[join, X_LEFT] -= 1
    else:
        rows[join, X_WANTED] -= 1
    rows[join, X_CHILDREN] -= 1
    if not rows[join, X_DONE] and (rows[join, X_WANTED] == 0 or rows[join, X_LEFT] < 0):
        rows[join, X_DONE], rows[join, X_STATUS] = 1, status
        soon(rows, rings, JOINED, rows[join, X_PARENT], status)
    if rows[join, X_CHILDREN] == 0:
        free(rows, join)


@jit
def land(rows: Table, rings: Table, flights: Table, place: int, status: int) -> None:
    """End the flight at `place`: whoever waits for it gets its result."""
    flight = flights[place]
    flights[place] = 0
    rows[flight, Y_STATUS] = status
    soon(rows, rings, LANDED, flight, 0)


@inline
def admitted(rows: Table, floats: Table, knobs: Table, guard: int, attempt: int) -> bool:
    """Return whether a call may be made: sim.guards.ServiceGuard.admit."""
    own = rows[guard, G_NUMBER]
    if attempt == 1:
        floats[own, B_TOKENS] = refilled(floats[own, B_TOKENS], knobs[RETRY_BUDGET])
    allowed, rows[guard, G_STATE] = admit(rows[guard, G_STATE], floats[own, B_UNTIL], rows[0, NOW] / 1e9)
    return allowed


@inline
def succeeded(rows: Table, guard: int) -> None:
    """Record that a call was answered: Breaker.succeeded."""
    if rows[guard, G_STATE] != IS_OPEN:
        rows[guard, G_FAILURES], rows[guard, G_STATE] = 0, IS_CLOSED


@jit
def failed(rows: Table, floats: Table, knobs: Table, job: int, frame: int, status: int) -> float:
    """Record a failed call; return seconds until the next attempt, negative: none. sim.guards.ServiceGuard.failed."""
    guard = rows[frame, F_GUARD]
    own = rows[guard, G_NUMBER]
    answered = status == UNAVAILABLE or status == REFUSED or status < UNAVAILABLE
    if answered:
        succeeded(rows, guard)
    else:
        rows[guard, G_FAILURES] += 1
        rows[guard, G_STATE], floats[own, B_UNTIL] = after_failure(
            rows[guard, G_STATE], rows[guard, G_FAILURES], floats[own, B_UNTIL], rows[0, NOW] / 1e9,
            int(knobs[BREAKER_FAILURES]), knobs[BREAKER_OPEN])
    attempt = rows[frame, F_ATTEMPT]
    reply = UNAVAILABLE if status == REFUSED else status if answered else 0
    may = retries(rows[frame, F_IDEMPOTENT] != 0, reply, attempt, int(knobs[RETRY_ATTEMPTS]), status == REFUSED)
    if not may or status == GATEWAY_TIMEOUT:
        return -1.0
    left = spent(floats[own, B_TOKENS])
    if left == NONE_LEFT:
        return -1.0
    floats[own, B_TOKENS] = left
    return longest_s(attempt, knobs[RETRY_BASE], knobs[RETRY_MOST]) * draw(rows, job)


@jit
def fail(rows: Table, floats: Table, contexts: Table, heap: Table, rings: Table, flights: Table, knobs: Table, job: int,
         status: int) -> None:
    """Fail a job: its flights land, its calls may retry, else it ends."""
    while rows[job, J_FRAMES]:
        frame = rows[job, J_FRAMES]
        if rows[frame, F_KIND] == FLYING:
            land(rows, rings, flights, rows[frame, F_PLACE], status % FINAL)
        elif rows[frame, F_KIND] == CALLING and status < FINAL:
            pause_s = failed(rows, floats, knobs, job, frame, status)
            give_back(rows, rings, job, rows[frame, F_HELD], status)
            ctx = rows[job, J_CONTEXT]
            if pause_s >= 0.0 and not contexts[ctx, C_ENDED]:
                rows[frame, F_ATTEMPT] += 1
                contexts[ctx, C_RETRIES] += 1
                rows[job, J_PC] = rows[frame, F_PC]
                after(rows, heap, rings, ns(pause_s), RESUME, job, 0)
                return
        rows[job, J_FRAMES] = rows[frame, NEXT]
        free(rows, frame)
    end(rows, contexts, rings, job, status)


@inline
def push_frame(rows: Table, job: int, kind: int, pc: int) -> int:
    """Return a new frame on top of a job's."""
    frame = new(rows)
    rows[frame, NEXT] = rows[job, J_FRAMES]
    rows[frame, F_KIND], rows[frame, F_PC], rows[frame, F_HELD] = kind, pc, rows[job, J_HELD]
    rows[job, J_FRAMES] = frame
    return frame


@inline
def pop_frame(rows: Table, job: int) -> None:
    """Remove the top frame of a job."""
    frame = rows[job, J_FRAMES]
    rows[job, J_FRAMES] = rows[frame, NEXT]
    free(rows, frame)


@jit
def start_children(rows: Table, job: int, many: int, need: int) -> int:
    """Return the join of `many` children of a job, of which `need` must succeed (0: all)."""
    join = new(rows)
    rows[join, X_PARENT], rows[join, X_CHILDREN] = job, many
    rows[join, X_WANTED] = need if need else many
    rows[join, X_LEFT] = many - rows[join, X_WANTED]
    return join


@jit
def start_child(rows: Table, rings: Table, job: int, join: int, key: int, pc: int, kind: int, item: int) -> None:
    """Start a child of a job."""
    child = new_job(rows, rows[job, J_CONTEXT], key, pc, E_CHILD, join)
    rows[child, J_KIND], rows[child, J_ITEM] = kind, item
    urgent(rows, rings, START, child)
