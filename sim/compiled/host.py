"""The cores, the processes on them, and CPU quotas: `sim.resources` and `sim.bandwidth`, on rows."""

from __future__ import annotations

import math

from sim import disciplines, stations
from sim.compiled.events import (
    Table,
    after,
    append,
    bare,
    free,
    new,
    ns,
    prepend,
    quantile,
    remove,
    soon,
    take,
    uniform,
)
from sim.compiled.jit import inline, jit
from sim.compiled.layout import *

NS = 1_000_000_000
UNIT, PACE_UNIT = disciplines.UNIT, stations.Pace.UNIT
EVERY_S, AVERAGE_S = 0.1, 1.0  # as in sim.stations.Amortization; a test keeps them equal


# ---- cores, shared evenly: sim.disciplines.ProcessorSharing --------------------------------------------

@jit
def advance(rows: Table) -> None:
    """Advance virtual time to now."""
    elapsed, n, speed = rows[0, NOW] - rows[0, SHARED_SINCE], rows[0, RUNNING], rows[0, SHARING]
    rows[0, SHARED_SINCE] = rows[0, NOW]
    gained = elapsed * UNIT if 1000 * n <= speed else elapsed * UNIT * speed // (1000 * n)
    rows[0, VIRTUAL] += gained
    rows[0, BUSY_NS] += gained * n // UNIT


@jit
def first_to_end(rows: Table) -> int:
    """Return the running task that ends first, of those that end together the one that started first; 0: none runs."""
    first = rows[0, READY]
    task = rows[first, NEXT] if first else 0
    while task:
        if rows[task, T_ENDS] < rows[first, T_ENDS]:
            first = task
        task = rows[task, NEXT]
    return first


@jit
def set_shared_timer(rows: Table, heap: Table, rings: Table) -> None:
    """Set the timer for the next completion."""
    rows[0, SHARED_TURN] += 1
    first = first_to_end(rows)
    if first:
        left, n, speed = max(rows[first, T_ENDS] - rows[0, VIRTUAL], 0), rows[0, RUNNING], rows[0, SHARING]
        wait_ns = -(-left // UNIT) if 1000 * n <= speed else -(-left * 1000 * n // (UNIT * speed))
        after(rows, heap, rings, wait_ns, SHARING_DUE, 0, rows[0, SHARED_TURN])


@jit
def share(rows: Table, heap: Table, rings: Table, task: int) -> None:
    """Let a task run beside all others."""
    advance(rows)
    rows[0, RUNNING] += 1
    rows[task, T_ENDS] = rows[0, VIRTUAL] + UNIT * rows[task, T_SLICE]
    append(rows, 0, READY, task)
    set_shared_timer(rows, heap, rings)


@jit
def shared_due(rows: Table, heap: Table, rings: Table, cpu: Table, turn: int) -> None:
    """Tasks have received what they needed."""
    if turn != rows[0, SHARED_TURN]:
        return
    advance(rows)
    while True:
        task = first_to_end(rows)
        if not task or rows[task, T_ENDS] > rows[0, VIRTUAL] + UNIT // 2:
            break
        remove(rows, 0, READY, task)
        rows[0, RUNNING] -= 1
        rows[0, DONE_NS] += rows[task, T_SLICE]
        if rows[task, T_PROCESS]:
            finished(rows, heap, rings, cpu, task)
        else:
            free(rows, task)
    set_shared_timer(rows, heap, rings)


# ---- cores: sim.resources.Host ----------------------------------------------------------------------------

@inline
def slice_left(rows: Table, core: int) -> int:
    """Return how much of its slice a core's process has left."""
    return max(rows[core, K_CAME] + rows[0, SLICE] - rows[0, NOW], 0)


@inline
def set_timer(rows: Table, heap: Table, rings: Table, core: int, wait_ns: int) -> None:
    """Let a core look up after `wait_ns`."""
    rows[core, K_TURN] += 1
    rows[core, K_DUE] = rows[0, NOW] + wait_ns
    if wait_ns > 0 and rows[0, TIMED_CORES]:
        rows[core, K_AT], rows[core, K_SEQUENCE] = rows[core, K_DUE], rows[0, SEQUENCE]
        rows[0, SEQUENCE] += 1
    else:
        rows[core, K_AT] = FOREVER
        after(rows, heap, rings, wait_ns, CORE_DUE, core, rows[core, K_TURN])


@jit
def set_pace(rows: Table, core: int) -> None:
    """Set how fast a core is now: sim.stations.Pace.factor."""
    while rows[core, K_UNTIL] <= rows[0, NOW]:
        rows[core, K_IS_SLOW] = 1 - rows[core, K_IS_SLOW]
        rows[core, K_DRAWS] += 1
        lasts = -math.log(1.0 - uniform(rows[core, K_KEY], rows[core, K_DRAWS] - 1))
        rows[core, K_UNTIL] += int(lasts * rows[core, K_MEAN_SLOW if rows[core, K_IS_SLOW] else K_MEAN_FAST] + 0.5)
    rows[core, K_PACE] = rows[core, K_SLOW if rows[core, K_IS_SLOW] else K_FAST]


@inline
def ran(rows: Table, core: int) -> int:
    """Return the CPU that a core's task has received since it came onto the core."""
    pace = rows[core, K_PACE]
    return ((rows[0, NOW] - rows[core, K_SINCE]) * PACE_UNIT + pace // 2) // pace


@inline
def put(rows: Table, heap: Table, rings: Table, core: int, task: int, came_ns: int) -> None:
    """Put a task on a core."""
    rows[core, K_TASK], rows[core, K_SINCE], rows[core, K_CAME] = task, rows[0, NOW], came_ns
    if rows[core, K_PACED]:
        set_pace(rows, core)
    wait_ns = (rows[task, T_LEFT] * rows[core, K_PACE] + PACE_UNIT // 2) // PACE_UNIT
    if rows[0, READY]:
        wait_ns = min(wait_ns, slice_left(rows, core))
    set_timer(rows, heap, rings, core, wait_ns)


@inline
def take_off(rows: Table, core: int) -> int:
    """Take the task off a core and return it."""
    task = rows[core, K_TASK]
    ran_ns = ran(rows, core)
    rows[task, T_LEFT] -= ran_ns
    rows[0, BUSY_NS] += ran_ns
    if not rows[task, T_PROCESS]:
        rows[0, BACKGROUND_NS] += ran_ns
    rows[core, K_TASK] = 0
    rows[core, K_TURN] += 1
    rows[core, K_AT] = FOREVER
    return task


@inline
def give_next(rows: Table, heap: Table, rings: Table, core: int) -> None:
    """Give an idle core the real-time task, else the task, that has waited longest."""
    task = take(rows, 0, PRIORITY)
    if not task:
        task = take(rows, 0, READY)
    if task:
        put(rows, heap, rings, core, task, rows[0, NOW])


@jit
def displace_for(rows: Table, heap: Table, rings: Table, task: int) -> None:
    """Give a real-time task the core of the ordinary task that came onto its core first."""
    chosen = 0
    for core in range(rows[0, CORE], rows[0, CORE] + rows[0, CORES]):
        other = rows[core, K_TASK]
        if other and not rows[other, T_URGENT] and (not chosen or rows[core, K_CAME] < rows[chosen, K_CAME]):
            chosen = core
    if not chosen:
        append(rows, 0, PRIORITY, task)
        return
    prepend(rows, 0, READY, take_off(rows, chosen))
    put(rows, heap, rings, chosen, task, rows[0, NOW])


@inline
def start_task(rows: Table, heap: Table, rings: Table, task: int) -> None:
    """Give a task its slice of CPU."""
    if rows[0, SHARING]:
        share(rows, heap, rings, task)
        return
    process, first = rows[task, T_PROCESS], rows[0, CORE]
    rows[task, T_LEFT] = rows[task, T_SLICE]
    now = rows[0, NOW]
    if process:
        for core in range(first, first + rows[0, CORES]):
            if rows[core, K_AFTER] == process and not rows[core, K_TASK]:
                if rows[0, READY] and now - rows[core, K_CAME] >= rows[0, SLICE]:
                    append(rows, 0, READY, task)
                else:
                    put(rows, heap, rings, core, task, rows[core, K_CAME])
                return
    for core in range(first, first + rows[0, CORES]):
        if not rows[core, K_TASK] and (not rows[core, K_AFTER] or not rows[0, READY] or rows[task, T_URGENT]):
            put(rows, heap, rings, core, task, now)
            return
    if rows[task, T_URGENT]:
        displace_for(rows, heap, rings, task)
        return
    append(rows, 0, READY, task)
    for core in range(first, first + rows[0, CORES]):
        if rows[core, K_TASK] and rows[core, K_DUE] > now + slice_left(rows, core):
            set_timer(rows, heap, rings, core, slice_left(rows, core))


@inline
def core_due(rows: Table, heap: Table, rings: Table, cpu: Table, core: int, turn: int) -> None:
    """The timer of a core: its task has ended, or its slice has."""
    if turn != rows[core, K_TURN]:
        return
    task = take_off(rows, core)
    if rows[task, T_LEFT] > 1:
        append(rows, 0, READY, task)
        give_next(rows, heap, rings, core)
        return
    rows[0, DONE_NS] += rows[task, T_SLICE]
    process, awaited = rows[task, T_PROCESS], rows[task, T_JOB] != 0
    rows[core, K_AFTER] = process
    if process:
        finished(rows, heap, rings, cpu, task)
    else:
        free(rows, task)
    if awaited and not rows[core, K_TASK]:
        soon(rows, rings, CORE_LEAVE, core, 0)
    else:
        core_leave(rows, heap, rings, core)


@inline
def core_leave(rows: Table, heap: Table, rings: Table, core: int) -> None:
    """A process leaves its core."""
    rows[core, K_AFTER] = 0
    if not rows[core, K_TASK]:
        give_next(rows, heap, rings, core)


@jit
def received(rows: Table, task: int) -> int:
    """Return how much of its slice a task has received."""
    if rows[0, SHARING]:
        advance(rows)
        return rows[task, T_SLICE] - (rows[task, T_ENDS] - rows[0, VIRTUAL]) // UNIT
    for core in range(rows[0, CORE], rows[0, CORE] + rows[0, CORES]):
        if rows[core, K_TASK] == task:
            return rows[task, T_SLICE] - rows[task, T_LEFT] + ran(rows, core)
    return rows[task, T_SLICE] - rows[task, T_LEFT]


# ---- quotas: sim.bandwidth --------------------------------------------------------------------------------

@inline
def refill(rows: Table, process: int) -> None:
    """Start the period of now."""
    if rows[0, NOW] >= rows[process, Q_ENDS]:
        number = (rows[0, NOW] - rows[process, Q_PHASE]) // rows[process, Q_PERIOD]
        rows[process, Q_ENDS] = rows[process, Q_PHASE] + (number + 1) * rows[process, Q_PERIOD]
        rows[process, Q_LEFT] = rows[process, Q_BUDGET]


@jit
def watch(rows: Table, heap: Table, rings: Table, process: int) -> None:
    """Look up at the end of the period."""
    if rows[process, Q_TIMER] < rows[process, Q_ENDS]:
        rows[process, Q_TIMER] = rows[process, Q_ENDS]
        after(rows, heap, rings, rows[process, Q_ENDS] - rows[0, NOW], QUOTA_PERIOD, process, 0)


@jit
def start_within_quota(rows: Table, heap: Table, rings: Table, process: int, task: int) -> None:
    """Run a task as far as its process' quota allows."""
    refill(rows, process)
    if rows[process, Q_LEFT] <= 0:
        rows[process, Q_THROTTLED] += 1
        rows[process, Q_WAITING] = task
        after(rows, heap, rings, rows[process, Q_ENDS] - rows[0, NOW], QUOTA_WAIT, process, task)
        return
    rows[process, Q_TASK] = task
    rows[task, T_SLICE] = min(rows[task, T_REST], rows[process, Q_LEFT])
    rows[process, Q_CHARGED] = 0
    start_task(rows, heap, rings, task)
    watch(rows, heap, rings, process)


@inline
def start_limited(rows: Table, heap: Table, rings: Table, process: int, task: int) -> None:
    """Run a task as far as its process' quota allows; without a quota all of it."""
    if rows[process, Q_ON]:
        start_within_quota(rows, heap, rings, process, task)
    else:
        start_task(rows, heap, rings, task)


@jit
def quota_period(rows: Table, heap: Table, rings: Table, process: int) -> None:
    """A period ends: charge the running task to it."""
    if rows[process, Q_TASK]:
        rows[process, Q_CHARGED] = received(rows, rows[process, Q_TASK])
        refill(rows, process)
        watch(rows, heap, rings, process)


@jit
def quota_wait(rows: Table, heap: Table, rings: Table, process: int, task: int) -> None:
    """The next period begins for a task that waited for it."""
    if rows[process, Q_WAITING] == task:
        rows[process, Q_WAITING] = 0
        start_limited(rows, heap, rings, process, task)


# ---- processes: sim.resources.Process ---------------------------------------------------------------------

@inline
def count(rows: Table, process: int, change: int) -> None:
    """Count an arrival (1) or a departure (-1)."""
    rows[process, N_AREA] += rows[process, N_INSIDE] * (rows[0, NOW] - rows[process, N_SINCE])
    rows[process, N_SINCE] = rows[0, NOW]
    rows[process, N_INSIDE] += change


@jit
def factor(rows: Table, floats: Table, process: int, demand_s: float) -> float:
    """Return the factor on a demand at the process' load: sim.stations.Amortization.factor."""
    own = rows[process, N_NUMBER]
    now_s = rows[0, NOW] / 1e9
    floats[own, A_WORK] += demand_s
    elapsed = now_s - floats[own, A_SINCE]
    if elapsed >= EVERY_S:
        weight = math.exp(-elapsed / AVERAGE_S)
        rate = floats[own, A_RATE] * weight + floats[own, A_WORK] / elapsed * (1.0 - weight)
        floats[own, A_RATE], floats[own, A_SINCE], floats[own, A_WORK] = rate, now_s, 0.0
        kept = min(max(rate, floats[own, A_LOWEST]), floats[own, A_HIGHEST])
        floats[own, A_FACTOR] = (kept / floats[own, A_REFERENCE]) ** -floats[own, A_EXPONENT]
        floats[own, A_MOST] = max(floats[own, A_MOST], rate)
        if rate > floats[own, A_HIGHEST]:
            floats[own, A_BEYOND] += elapsed
    return floats[own, A_FACTOR]


@inline
def enter(rows: Table, heap: Table, rings: Table, process: int, job: int, need_ns: int) -> None:
    """Add a task of `need_ns`; `job` waits for it (0: nobody does)."""
    count(rows, process, 1)
    rows[process, N_ARRIVALS] += 1
    task = bare(rows)
    rows[task, T_PROCESS], rows[task, T_JOB], rows[task, T_URGENT] = process, job, rows[process, N_REALTIME]
    rows[task, T_REST] = rows[task, T_SLICE] = rows[task, T_LEFT] = need_ns
    rows[task, T_ARRIVED] = rows[0, NOW]
    if rows[process, N_BUSY] < rows[process, N_WIDTH]:
        rows[process, N_BUSY] += 1
        start_limited(rows, heap, rings, process, task)
    else:
        append(rows, process, N_QUEUE, task)


@inline
def work(rows: Table, floats: Table, heap: Table, rings: Table, slowness: Table, process: int, job: int, demand_s: float) -> None:
    """Let `job` wait for `demand_s` of CPU at nominal cost."""
    own = rows[process, N_NUMBER]
    on_path = 1.0 - floats[own, OFF_PATH]
    if rows[process, N_AMORTIZED]:
        cheaper = factor(rows, floats, process, demand_s)
        demand_s *= cheaper
        if floats[own, A_LEAST]:
            on_path *= floats[own, A_LEAST] / cheaper
    if slowness.shape[0]:
        demand_s *= slowness[min(rows[0, NOW] // NS, slowness.shape[0] - 1)]
    enter(rows, heap, rings, process, job, ns(demand_s * on_path))
    if on_path < 1.0:
        enter(rows, heap, rings, process, 0, ns(demand_s * (1.0 - on_path)))


@inline
def finished(rows: Table, heap: Table, rings: Table, cpu: Table, task: int) -> None:
    """Handle the end of a slice of `task`."""
    process, slice_ns = rows[task, T_PROCESS], rows[task, T_SLICE]
    cpu[rows[process, N_NUMBER], rows[0, NOW] // NS] += slice_ns
    rows[process, N_DEMAND] += slice_ns
    if rows[process, Q_ON] and rows[process, Q_TASK] == task:
        rows[process, Q_TASK] = 0
        rows[process, Q_LEFT] -= slice_ns - rows[process, Q_CHARGED]
        rows[task, T_REST] -= slice_ns
        if rows[task, T_REST] > 0:
            start_limited(rows, heap, rings, process, task)
            return
    count(rows, process, -1)
    rows[process, N_SOJOURN] += rows[0, NOW] - rows[task, T_ARRIVED]
    rows[process, N_COMPLETIONS] += 1
    following = take(rows, process, N_QUEUE)
    if following:
        start_limited(rows, heap, rings, process, following)
    else:
        rows[process, N_BUSY] -= 1
    if rows[task, T_JOB]:
        soon(rows, rings, TASK_DONE, rows[task, T_JOB], 0)
    free(rows, task)


@jit
def lose(rows: Table, rings: Table, task: int, status: int) -> None:
    """Fail a task of a dead process."""
    process = rows[task, T_PROCESS]
    count(rows, process, -1)
    rows[process, N_SOJOURN] += rows[0, NOW] - rows[task, T_ARRIVED]
    rows[process, N_LOST] += 1
    if rows[task, T_JOB]:
        soon(rows, rings, TASK_DONE, rows[task, T_JOB], status)
    free(rows, task)


@jit
def take_of(rows: Table, owner: int, column: int, process: int) -> int:
    """Remove the first task of `process` from a list and return it; 0 if there is none."""
    task = rows[owner, column]
    while task and rows[task, T_PROCESS] != process:
        task = rows[task, NEXT]
    if task:
        remove(rows, owner, column, task)
        if rows[0, SHARING] and owner == 0:
            rows[0, RUNNING] -= 1
    return task


@jit
def background(rows: Table, heap: Table, rings: Table, laws: Table, first: bool) -> None:
    """Start a background task (not the `first` time), and set the timer for the next one."""
    number, law = rows[0, BACKGROUND_DRAWS], rows[0, BACKGROUND_LAW]
    if not first:
        task = new(rows)
        need_ns = ns(quantile(laws, law, uniform(rows[0, BACKGROUND_KEY], number)))
        rows[task, T_REST] = rows[task, T_SLICE] = need_ns
        rows[task, T_ARRIVED] = rows[0, NOW]
        start_task(rows, heap, rings, task)
        number += 1
        rows[0, BACKGROUND_DRAWS] = number
    wait_ns = ns(quantile(laws, rows[0, PAUSE_LAW], uniform(rows[0, BACKGROUND_PAUSES], number)))
    after(rows, heap, rings, wait_ns, BACKGROUND_DUE, 0, 0)
