"""The kernel: takes one event after the other from the event list and walks jobs through their code.

One function, because numba passes an array as nine values: an interpreter that called a function for each event would spend
most of its time on that. What is not needed for every event is in the modules that it calls.
"""

from __future__ import annotations

from sim.compiled import host, jobs, load
from sim.compiled.events import (
    Table,
    after,
    append,
    free,
    mixed,
    new,
    ns,
    quantile,
    remove,
    remove_first,
    soon,
    take,
)
from sim.compiled.jit import kernel
from sim.compiled.jobs import FINAL, GATEWAY_TIMEOUT, OF_MESH, draw, fork
from sim.compiled.layout import *
from sim.compiled.model import APPROVED, FOLLOW, chunk, chunks, effect, list_items, predicate, process_of, size
from sim.compiled.world import U_LISTS

FLIGHTS_BELOW = 4
"""Kinds of list; the flights of processes follow after those of all users' lists."""
MARGIN = 4096
"""Free rows and contexts that one event may need at most."""
LIST_KEY, VIEW_KEY, PRIVACY_KEY, ONE_KEY = 0, 1, 2, 3
NUMBERS = 100
"""Number of a list of whole numbers; the operation has their count."""
CHANCES = 1000
"""Predicates from here on hold with a probability, in millionths."""
PUBLISHED, STAMPS = 1000, 1001
"""Effects: publish the events of a batch; and from STAMPS on a time stamp: column * 3 + (0: now, 1: -now, 2: += now, 3: 0)."""


@kernel
def run(until_ns: int, rows: Table, floats: Table, contexts: Table, heap: Table, rings: Table, code: Table, shares: Table,
        units: Table, laws: Table, tape: Table, routes: Table, users: Table, tweets: Table, edges: Table,
        extra: Table, windows: Table, knobs: Table, flights: Table, items: Table, effects: Table, cpu: Table, work: Table,
        slowness: Table, responses: Table, trace: Table, load_s: float) -> int:
    """Play everything before `until_ns`; return REACHED, or GROW (a table is nearly full), OVERFLOW or SIGNAL.

    The tables: `sim.compiled.machine`.
    """
    rows[0, STOP] = REACHED
    while True:
        # ---- the next event: something urgent, something due now, something that this instant caused, else later
        turn = 0
        if rows[0, URGENT_HEAD] < rows[0, URGENT_TAIL]:
            at = rows[0, URGENT_HEAD] & (rings.shape[1] - 1)
            kind, argument = rings[0, at, 0], rings[0, at, 1]
            rows[0, URGENT_HEAD] += 1
        else:
            # the earliest of the heap, the timers of the cores, and the deadlines
            time, sequence, source = FOREVER, FOREVER, 0
            if rows[0, HEAP]:
                time, sequence = heap[0, 0], heap[0, 1]
            for core in range(rows[0, CORE], rows[0, CORE] + rows[0, TIMED_CORES]):
                if rows[core, K_AT] < time or (rows[core, K_AT] == time and rows[core, K_SEQUENCE] < sequence):
                    time, sequence, source = rows[core, K_AT], rows[core, K_SEQUENCE], core
            while rows[0, DEADLINES_HEAD] < rows[0, DEADLINES_TAIL]:
                at = rows[0, DEADLINES_HEAD] & (rings.shape[1] - 1)
                if rings[2, at, 2] > time or (rings[2, at, 2] == time and rings[2, at, 3] > sequence):
                    break
                if rows[rings[2, at, 0], O_TOKEN] == rings[2, at, 1] and not rows[rings[2, at, 0], O_TRIGGERED]:
                    time, sequence, source = rings[2, at, 2], rings[2, at, 3], -1
                    break
                rows[0, DEADLINES_HEAD] += 1  # it has ended
            if time > rows[0, NOW] and rows[0, SOON_HEAD] < rows[0, SOON_TAIL]:
                at = rows[0, SOON_HEAD] & (rings.shape[1] - 1)
                kind, argument, turn = rings[1, at, 0], rings[1, at, 1], rings[1, at, 2]
                rows[0, SOON_HEAD] += 1
            else:
                if rows[0, STOP] != REACHED:
                    return rows[0, STOP]
                if (rows[0, USED] > rows.shape[0] - MARGIN or rows[0, CONTEXTS] > contexts.shape[0] - MARGIN
                        or rows[0, HEAP] > heap.shape[0] - MARGIN or rows[0, EFFECTS] > effects.shape[0] - MARGIN
                        or (trace.shape[0] > 0 and rows[0, TRACED] > trace.shape[0] - MARGIN)):
                    return GROW
                if time >= until_ns:
                    rows[0, NOW] = until_ns
                    return REACHED
                if time > rows[0, NOW]:  # nothing waits: start again where the rings are in the processor's cache
                    rows[0, URGENT_HEAD] = rows[0, URGENT_TAIL] = rows[0, SOON_HEAD] = rows[0, SOON_TAIL] = 0
                rows[0, NOW] = time
                if source > 0:
                    kind, argument, turn = CORE_DUE, source, rows[source, K_TURN]
                    rows[source, K_AT] = FOREVER
                elif source < 0:
                    at = rows[0, DEADLINES_HEAD] & (rings.shape[1] - 1)
                    kind, argument, turn = DEADLINE, rings[2, at, 0], rings[2, at, 1]
                    rows[0, DEADLINES_HEAD] += 1
                else:
                    kind, argument, turn = heap[0, 2], heap[0, 3], heap[0, 4]
                    remove_first(rows, heap)
        rows[0, EVENTS] += 1

        # ---- what it does; `job` is then walked through its code
        job = status = 0
        if kind == RESUME or kind == START:
            job = argument
        elif kind == CORE_DUE:
            host.core_due(rows, heap, rings, cpu, argument, turn)
        elif kind == SHARING_DUE:
            host.shared_due(rows, heap, rings, cpu, turn)
        elif kind == CORE_LEAVE:
            host.core_leave(rows, heap, rings, argument)
        elif kind == TASK_DONE:
            job, status = argument, turn
        elif kind == ENDED:
            ends, other, result = rows[argument, J_ENDS], rows[argument, J_ARGUMENT], rows[argument, J_STATUS]
            mark = rows[argument, J_MARK]
            free(rows, argument)
            if ends == E_CHILD:
                jobs.child_ended(rows, rings, other, result)
            elif ends == E_OPERATION:
                if rows[other, O_TOKEN] == mark and not rows[other, O_TRIGGERED]:
                    rows[other, O_TRIGGERED] = 1
                    soon(rows, rings, OPERATION_RESUME, other, mark)
            elif ends == E_PAIR:
                load.polled_pair(rows, contexts, heap, rings, other, result)
            elif ends == E_NULL:
                contexts[other, C_DONE], contexts[other, C_STATUS] = rows[0, NOW], result if result else 200
            elif ends == E_LANE:
                if rows[other, Z_TURN] == mark and rows[rows[other, Z_LOOP], L_TURN] == mark:
                    load.event_handled(rows, contexts, heap, rings, other, result)
            elif ends == E_AROUND:
                if rows[other, L_TURN] == mark:
                    load.around_ended(rows, contexts, heap, rings, laws, tweets, other, result)
            elif ends == E_SIGNAL:
                append(rows, 0, SIGNALS, other)
                rows[0, STOP] = max(rows[0, STOP], SIGNAL)
        elif kind == GRANT:
            job = argument
            jobs.hold(rows, job, rows[job, J_POOL])
        elif kind == CONDITION:
            job = argument
            pool = rows[job, J_POOL]
            if rows[job, J_STATE] == GRANTED:
                jobs.hold(rows, job, pool)
            else:
                remove(rows, pool, P_QUEUE, rows[job, J_WAITER])
                rows[pool, P_WAITING] -= 1
                free(rows, rows[job, J_WAITER])
                status = OF_MESH
            rows[job, J_STATE] = 0
        elif kind == PATIENCE:
            if rows[argument, J_STATE] == WAITS and rows[argument, J_TURN] == turn:
                rows[argument, J_STATE] = TIMED_OUT
                soon(rows, rings, CONDITION, argument, 0)
        elif kind == JOINED:
            job, status = argument, turn
        elif kind == FLUSHED:
            jobs.flushed(rows, heap, rings, laws, argument)
        elif kind == BACKGROUND_DUE:
            host.background(rows, heap, rings, laws, False)
        elif kind == ARRIVAL:
            if argument + 1 < tape.shape[0]:
                after(rows, heap, rings, tape[argument + 1, TAPE_DUE] - rows[0, NOW], ARRIVAL, argument + 1, 0)
            load.arrive(rows, contexts, rings, argument, tape[argument, TAPE_ROUTE], tape[argument, TAPE_USER],
                        tape[argument, TAPE_TARGET], 1 + tape[argument, TAPE_SECOND])
        elif kind == OPERATION_START:
            load.start_operation(rows, contexts, heap, rings, routes, knobs, argument)
        elif kind == DEADLINE:
            if rows[argument, O_TOKEN] == turn and not rows[argument, O_TRIGGERED]:
                rows[argument, O_TRIGGERED] = 1
                soon(rows, rings, OPERATION_RESUME, argument, turn)
        elif kind == OPERATION_RESUME:
            load.resume_operation(rows, contexts, heap, rings, users, edges, knobs, routes, responses, argument)
        elif kind == OPERATION_RETRY:
            load.start_attempt(rows, contexts, heap, rings, routes, argument)
        elif kind == LANDED:
            load.landed(rows, rings, argument)
        elif kind == RESULT:
            job, status = rows[argument, WAITER_JOB], rows[argument, WAITER_STATUS]
            free(rows, argument)
        elif kind == LANE_START:
            load.start_lane(rows, rings, argument)
        elif kind == LANE_GO or kind == LANE_RETRY:
            if rows[rows[argument, Z_LOOP], L_TURN] == turn:
                load.handle_event(rows, contexts, rings, argument)
        elif kind == LANE_ENDED:
            if rows[rows[argument, Z_LOOP], L_TURN] == turn:
                load.lane_ended(rows, rings, argument)
        elif kind == LOOP_WAKE:
            if rows[argument, L_TURN] == turn:
                load.loop_top(rows, contexts, heap, rings, laws, tweets, argument)
        elif kind == LOOP_POLL:
            if rows[argument, L_TURN] == turn:
                load.loop_gather(rows, contexts, heap, rings, tweets, argument)
        elif kind == LOOP_GATHERED:
            if rows[argument, L_TURN] == turn:
                load.loop_poll(rows, contexts, rings, tweets, argument)
        elif kind == LOOP_HANDLED:
            if rows[argument, L_TURN] == turn:
                load.poll_handled(rows, contexts, heap, rings, laws, tweets, argument)
        elif kind == LOOP_AROUND:
            if rows[argument, L_TURN] == turn:
                load.around(rows, contexts, rings, tweets, argument, rows[argument, L_PHASE])
        elif kind == PAIR_START:
            load.start_pair(rows, contexts, rings, routes, argument)
        elif kind == PAIR_POLL:
            load.poll_pair(rows, contexts, rings, routes, argument)
        elif kind == NULL_DUE:
            load.null_due(rows, contexts, heap, rings, argument, load_s)
        elif kind == NULL_START:
            load.start_null(rows, contexts, rings, routes, argument)
        elif kind == QUOTA_PERIOD:
            host.quota_period(rows, heap, rings, argument)
        elif kind == QUOTA_WAIT:
            host.quota_wait(rows, heap, rings, argument, turn)

        # ---- walk the job until it waits
        ctx = rows[job, J_CONTEXT]
        while job:
            if status:
                jobs.fail(rows, floats, contexts, heap, rings, flights, knobs, job, status)
                break
            pc = rows[job, J_PC]
            op, a, b = code[pc, 0], code[pc, 1], code[pc, 2]
            rows[job, J_PC] = pc + 1
            top = rows[job, J_FRAMES]
            if trace.shape[0] > 0 and code[pc, 7] and not (op == OP_CALL and top and rows[top, F_PC] == pc):
                at = rows[0, TRACED]
                trace[at, 0], trace[at, 1], trace[at, 2] = rows[0, NOW], rows[job, J_KEY], op
                rows[0, TRACED] = at + 1
            if op == OP_CPU:
                if contexts[ctx, C_ENDED]:
                    status = GATEWAY_TIMEOUT + FINAL
                    continue
                process = process_of(rows, contexts, ctx, -1 - a) if a < 0 else a
                if rows[process, N_DOWN]:
                    status = rows[process, N_DOWN_STATUS]
                    continue
                many = 0.0
                if code[pc, 3]:
                    many = size(rows, contexts, users, edges, knobs, job, code[pc, 3])
                if work.shape[0] > 0:
                    work[b, rows[0, NOW] // host.NS, 0] += shares[pc]
                    work[b, rows[0, NOW] // host.NS, 1] += many * shares[pc]
                demand_s = (units[b, 0] + units[b, 1] * many) * shares[pc]
                if demand_s > 0.0:
                    noise = quantile(laws, int(units[b, 2]), draw(rows, job))
                    host.work(rows, floats, heap, rings, slowness, process, job, demand_s * noise)
                    break
            elif op == OP_DELAY:
                pause_ns = ns(quantile(laws, a, draw(rows, job)))
                if pause_ns:
                    after(rows, heap, rings, pause_ns, RESUME, job, 0)
                    break
            elif op == OP_EFFECT:
                if a >= STAMPS:
                    column, how = (a - STAMPS) >> 2, (a - STAMPS) & 3
                    if how == 0:
                        contexts[ctx, column] = rows[0, NOW]
                    elif how == 1:
                        contexts[ctx, column] = -rows[0, NOW]
                    elif how == 2:
                        contexts[ctx, column] += rows[0, NOW]
                    else:
                        contexts[ctx, C_GATEWAY] = contexts[ctx, C_SERVICE] = contexts[ctx, C_STORE] = 0
                elif a == PUBLISHED:
                    load.publish_batch(rows, contexts, rings, routes, ctx)
                else:
                    effect(rows, contexts, users, tweets, edges, extra, effects, knobs, job, a)
            elif op == OP_BRANCH:
                if a >= CHANCES:
                    holds = draw(rows, job) < (a - CHANCES) / 1e6
                else:
                    holds = predicate(rows, floats, contexts, users, edges, extra, windows, knobs, job, a)
                if not holds:
                    rows[job, J_PC] = b
            elif op == OP_JUMP:
                rows[job, J_PC] = a
            elif op == OP_ACQUIRE or op == OP_RELEASE:
                pool = b
                if a == SEAT:
                    fleet = rows[0, FLEETS] + b
                    if op == OP_ACQUIRE:
                        contexts[ctx, C_AT + b] = load.choose(rows, fleet)
                    instance = contexts[ctx, C_AT + b]
                    pool = rows[instance if instance else rows[fleet, S_FIRST], I_SEATS]
                elif a == SLOT:
                    instance = contexts[ctx, C_AT + b]
                    if not instance:
                        instance = rows[rows[0, FLEETS] + b, S_FIRST]
                    pool = rows[instance, I_SLOTS + code[pc, 3]]
                if op == OP_RELEASE:
                    jobs.let_go(rows, job, pool)
                    jobs.release(rows, rings, pool, 0)
                else:
                    status = jobs.acquire(rows, heap, rings, job, pool)
                    if status < 0:
                        status = 0
                        break
                    if status == 0:
                        jobs.hold(rows, job, pool)
            elif op == OP_FLUSH:
                jobs.flush(rows, heap, rings, laws, a, job)
                break
            elif op == OP_CALL:
                frame = rows[job, J_FRAMES]
                if not frame or rows[frame, F_PC] != pc or rows[frame, F_KIND] != CALLING:
                    frame = jobs.push_frame(rows, job, CALLING, pc)
                    rows[frame, F_GUARD], rows[frame, F_IDEMPOTENT], rows[frame, F_ATTEMPT] = a, b, 1
                if not jobs.admitted(rows, floats, knobs, a, rows[frame, F_ATTEMPT]):
                    jobs.pop_frame(rows, job)
                    status = jobs.REFUSED
            elif op == OP_RETURNED:
                jobs.succeeded(rows, a)
                jobs.pop_frame(rows, job)
            elif op == OP_EACH or op == OP_PARALLEL:
                count = b if op == OP_PARALLEL else code[pc, 4] if a == NUMBERS else list_items(
                    rows, contexts, users, edges, items, job, a)
                if op == OP_PARALLEL:
                    rows[job, J_PC] = code[pc, 5]
                if count == 0:
                    continue
                key = fork(rows, job)
                join = jobs.start_children(rows, job, count, code[pc, 3])
                for number in range(count):
                    if op == OP_PARALLEL:
                        jobs.start_child(rows, rings, job, join, mixed(key, number), code[a + number, 1], rows[job, J_KIND],
                                         rows[job, J_ITEM])
                    elif a == NUMBERS:
                        jobs.start_child(rows, rings, job, join, mixed(key, number), b, 0, number)
                    else:
                        jobs.start_child(rows, rings, job, join, mixed(key, number), b, items[number, 0], items[number, 1])
                break
            elif op == OP_LOOP:
                frame = jobs.push_frame(rows, job, LOOPING, pc)
                rows[frame, F_COUNT] = b if a == NUMBERS else chunks(contexts, knobs, ctx)
            elif op == OP_NEXT:
                frame = rows[job, J_FRAMES]
                number = rows[frame, F_AT]
                if number >= rows[frame, F_COUNT]:
                    jobs.pop_frame(rows, job)
                    rows[job, J_PC] = a
                else:
                    rows[frame, F_AT] = number + 1
                    rows[job, J_ITEM] = number if b == NUMBERS else chunk(contexts, knobs, ctx, number)
            elif op == OP_ONCE:
                if a == LIST_KEY:
                    place = rows[job, J_KIND] * users.shape[0] + rows[job, J_ITEM]
                    if users[rows[job, J_ITEM], U_LISTS + rows[job, J_KIND]]:
                        rows[job, J_PC] = b
                        continue
                elif a == ONE_KEY:
                    place = 0
                else:
                    place = FLIGHTS_BELOW * users.shape[0] + 2 * rows[process_of(rows, contexts, ctx, code[pc, 3]), N_NUMBER]
                    place += a == VIEW_KEY
                if flights[place]:
                    load.board(rows, flights[place], job)
                    rows[job, J_PC] = b
                    break
                frame = jobs.push_frame(rows, job, FLYING, pc)
                flight = new(rows)
                rows[frame, F_PLACE], flights[place] = place, flight
            elif op == OP_LANDED:
                jobs.land(rows, rings, flights, rows[rows[job, J_FRAMES], F_PLACE], 0)
                jobs.pop_frame(rows, job)
            elif op == OP_PUBLISH:
                key = fork(rows, job)
                route, user, target = contexts[ctx, C_ROUTE], contexts[ctx, C_USER], contexts[ctx, C_TARGET]
                if route == APPROVED:  # an approval creates an edge from the requester to the approver
                    route, user, target = FOLLOW, target, user
                load.publish(rows, contexts, rings, a, ctx, route, user, target, key)
            elif op == OP_FAIL:
                status = a
            else:
                jobs.end(rows, contexts, rings, job, 0)
                break


@kernel
def start_background(rows: Table, heap: Table, rings: Table, laws: Table) -> None:
    """Plan the first background task."""
    host.background(rows, heap, rings, laws, True)


@kernel
def crash(rows: Table, heap: Table, rings: Table, process: int, status: int) -> None:
    """Kill a process: sim.resources.Process.crash."""
    if rows[0, SHARING]:
        host.advance(rows)
    rows[process, N_DOWN] = 1
    lost = 0  # a list of the tasks inside, in the order in which they fail
    last = 0
    first = rows[0, CORE]
    for place in range(rows[0, CORES] + 4):
        while True:
            task = 0
            if place < rows[0, CORES]:
                on_core = rows[first + place, K_TASK]
                if on_core and rows[on_core, T_PROCESS] == process:
                    task = host.take_off(rows, first + place)
            elif place == rows[0, CORES]:
                task = host.take_of(rows, 0, READY, process)
            elif place == rows[0, CORES] + 1:
                task = host.take_of(rows, 0, PRIORITY, process)
                if not task:
                    for core in range(first, first + rows[0, CORES]):
                        if not rows[core, K_TASK]:
                            host.give_next(rows, heap, rings, core)
            elif place == rows[0, CORES] + 2:
                task = take(rows, process, N_QUEUE)
            else:
                task = rows[process, Q_WAITING]
                rows[process, Q_WAITING] = 0
            if not task:
                break
            rows[task, NEXT] = 0
            if last:
                rows[last, NEXT] = task
            else:
                lost = task
            last = task
    rows[process, Q_TASK] = rows[process, N_BUSY] = 0
    while lost:
        following = rows[lost, NEXT]
        host.lose(rows, rings, lost, status)
        lost = following


@kernel
def begin(rows: Table, floats: Table, heap: Table, rings: Table, slowness: Table, process: int, demand_s: float, pc: int) -> int:
    """Give a process work of nobody; return the row that is in the list SIGNALS when it is done. `pc`: of an OP_END."""
    signal = new(rows)
    host.work(rows, floats, heap, rings, slowness, process, jobs.new_job(rows, 0, 0, pc, E_SIGNAL, signal), demand_s)
    return signal


@kernel
def stop(rows: Table, contexts: Table, loop: int) -> None:
    """Stop a consumer."""
    load.stop_loop(rows, contexts, loop)


@kernel
def resume(rows: Table, rings: Table, loop: int) -> None:
    """Restart a consumer."""
    load.resume_loop(rows, rings, loop)
