"""Columns of the tables of the compiled engine, kinds of events, and codes of operations."""

from __future__ import annotations

WIDTH = 64
"""Columns of a row. A row that is used again starts with CLEARED zeros; only objects that stay have more columns."""
CLEARED = 32

NEXT = 0
"""The next row of the list that a row is in."""

# ---- row 0: the engine itself
(NOW, SEQUENCE, HEAP, FREE, USED, STOP, URGENT_HEAD, URGENT_TAIL, SOON_HEAD, SOON_TAIL, READY, READY_TAIL, PRIORITY,
 PRIORITY_TAIL, BUSY_NS, DONE_NS, BACKGROUND_NS, CORES, CORE, SLICE, CONTEXTS, OPERATIONS, TRACED, ARRIVED, BACKGROUND_PAUSES,
 BACKGROUND, BACKGROUND_KEY, BACKGROUND_DRAWS, BACKGROUND_LAW, LOSSES, POSTED, LAST_POSTED, NEXT_TWEET, ID_SEQUENCE, START_MS,
 EFFECTS, PULLED, PAIRS, FLEETS, REDIS, DEADLINE_NS, OPERATION_KEY, PLANNED, STAMP, NULL_KEY, EVENTS,
 PAUSE_LAW) = range(47)

SEEN_PAIRS, SEEN_PAIRS_TAIL, SIGNALS, SIGNALS_TAIL = 47, 48, 49, 50
"""Lists of the pairs that are done, and of jobs whose end Python waits for."""

SHARING, VIRTUAL, SHARED_SINCE, SHARED_TURN, RUNNING = 51, 52, 53, 54, 55
"""Processor sharing: its speed (0: a run queue), and its state."""

DEADLINES_HEAD, DEADLINES_TAIL, TIMED_CORES = 56, 57, 58
"""The queue of deadlines; how many cores have their timer in their own row, K_AT: all, or none if there are many."""

FOREVER = 1 << 62
"""Later than any event."""
MOST_TIMED_CORES = 8
"""With more cores, their timers are in the heap."""

# why the kernel returned
REACHED, SIGNAL, GROW, OVERFLOW = 0, 1, 2, 3

# ---- a core
(K_TASK, K_AFTER, K_SINCE, K_CAME, K_DUE, K_TURN, K_PACE, K_PACED, K_FAST, K_SLOW, K_MEAN_FAST, K_MEAN_SLOW, K_IS_SLOW, K_UNTIL,
 K_KEY, K_DRAWS, K_AT, K_SEQUENCE) = range(1, 19)

# ---- a process
(N_QUEUE, N_QUEUE_TAIL, N_WIDTH, N_BUSY, N_REALTIME, N_DOWN, N_DOWN_STATUS, N_DEMAND, N_AREA, N_ARRIVALS, N_COMPLETIONS,
 N_INSIDE, N_LOST, N_SINCE, N_SOJOURN, N_NUMBER, N_AMORTIZED, Q_ON, Q_BUDGET, Q_PERIOD, Q_PHASE, Q_LEFT, Q_ENDS, Q_CHARGED,
 Q_TASK, Q_WAITING, Q_TIMER, Q_THROTTLED, V_PRIVACY, V_READING, V_VIEW, FLIGHT_VIEW, FLIGHT_PRIVACY) = range(1, 34)
NEVER = -(1 << 60)
"""A view that was never read."""

# its figures, columns of `floats`
(A_EXPONENT, A_REFERENCE, A_LOWEST, A_HIGHEST, A_RATE, A_SINCE, A_WORK, A_FACTOR, A_BEYOND, A_MOST, A_LEAST, OFF_PATH,
 ABOVE_SINCE, B_UNTIL, B_TOKENS) = range(15)
FLOATS = 15

# ---- a task
T_PROCESS, T_JOB, T_URGENT, T_REST, T_SLICE, T_LEFT, T_ARRIVED, T_ENDS = 1, 2, 3, 4, 5, 6, 7, 8

# ---- a pool, and a job that waits in it
P_PLACES, P_FREE, P_BOUND, P_PATIENCE, P_QUEUE, P_QUEUE_TAIL, P_WAITING, P_SEATS, P_ANSWERS, P_ERRORS, P_REFUSED = range(1, 12)
UNBOUNDED = 1 << 60

# ---- a device
D_QUEUE, D_QUEUE_TAIL, D_FLUSHING, D_LAW, D_KEY, D_DRAWS = 1, 2, 3, 4, 5, 6

# ---- a job
(J_PC, J_CONTEXT, J_KEY, J_DRAWS, J_KIND, J_ITEM, J_FRAMES, J_STATE, J_WAITER, J_ENDS, J_ARGUMENT, J_STATUS, J_POOL, J_TURN,
 J_HELD) = range(1, 16)
J_SLOTS, J_MARK = 16, 30
"""The pools in which it holds slots; what tells whoever waits for its end that it is the same job."""
MOST_HELD = 12
WAITS, GRANTED, TIMED_OUT = 1, 2, 3

# what happens when a job ends
E_NOTHING, E_CHILD, E_OPERATION, E_PAIR, E_NULL, E_LANE, E_AROUND, E_SIGNAL = range(8)

# ---- a frame of a job: a call, a single flight or a loop under way
F_KIND, F_PC, F_HELD, F_ATTEMPT, F_GUARD, F_IDEMPOTENT, F_PLACE, F_AT, F_COUNT = range(1, 10)
CALLING, FLYING, LOOPING = 1, 2, 3

# ---- a join of children
X_PARENT, X_WANTED, X_LEFT, X_DONE, X_STATUS, X_CHILDREN = range(1, 7)

# ---- a flight: jobs that wait for its result
Y_QUEUE, Y_QUEUE_TAIL, Y_STATUS = 1, 2, 3
WAITER_JOB, WAITER_STATUS = 1, 2
ROUTE_CODE, ROUTE_IS_READ, ROUTE_TOPIC = 0, 1, 2
"""Columns of the table of routes."""
TAPE_DUE, TAPE_ROUTE, TAPE_USER, TAPE_TARGET, TAPE_SECOND = range(5)

# ---- a guard
G_STATE, G_FAILURES, G_NUMBER = 1, 2, 3

# ---- a fleet and its instances
S_COUNT, S_TURN, S_FIRST = 1, 2, 3
MOST_INSTANCES = 16
I_PROCESS, I_OPEN, I_TURN, I_SEATS, I_NUMBER, I_SLOTS = 1, 2, 3, 4, 5, 6
"""From I_SLOTS on the pools of the instance."""

# ---- an operation of the load
O_CONTEXT, O_TOKEN, O_TRIGGERED, O_STATUS, O_PC = 1, 2, 3, 4, 5

# ---- a pair of a tweet and a follower that is polled
R_TWEET, R_FOLLOWER, R_KEY, R_ACKED, R_BEFORE, R_PAUSE, R_POLLS, R_CONTEXT, R_SEEN, R_GAP, R_ORDER = range(1, 12)

# ---- a poll loop and its lanes
(L_QUEUE, L_QUEUE_TAIL, L_POLLED, L_POLLED_COUNT, L_WOKEN, L_IDLE, L_STOPPED, L_TURN, L_LAST, L_GATHER, L_LANES, L_LAW, L_KEY,
 L_POLLS, L_BATCHES, L_BATCH, L_BEGIN, L_COMMIT, L_RUNNING, L_SLOTS, L_WAITING, L_WAITING_TAIL, L_PROCESS, L_EVENTS,
 L_WAITS, L_BATCHED_FIRST, L_BATCHED_COUNT, L_PHASE) = range(1, 29)
Z_LOOP, Z_HEAD, Z_TURN, Z_CONTEXT = 1, 2, 3, 4
BEGIN, COMMIT = 0, 1
MEMBERS = 30
"""In the row of a loop: from here on the code of each topic, by number."""
TOPIC_LOOPS, TOPIC_DISTINCT, TOPIC_FIRST, TOPIC_NUMBER = 1, 2, 3, 20
"""A topic: number of its loops, whether a batch of it counts distinct tweets, the loops, its number."""

# ---- a context: a request, an event or a batch
(C_NEXT, C_INDEX, C_ROUTE, C_USER, C_TARGET, C_DUE, C_SENT, C_DONE, C_STATUS, C_RETRIES, C_ATTEMPT, C_PAGES, C_ENDED, C_SOURCE,
 C_PATH, C_TOPIC, C_GATEWAY, C_SERVICE, C_STORE, C_ARRIVED, C_KEY, C_TWEET, C_AUDIENCE, C_CHANGED, C_EPOCH, C_MISSING, C_ABSENT,
 C_PULLED, C_COLD, C_BATCH, C_BATCHED, C_DISTINCT, C_LANE, C_ORDER, C_PAGED, C_AT) = range(36)
C_PAGE = 44
CONTEXT_WIDTH = 64
PAGE = 20
HIT, REBUILD, DIRECT, PULL = 1, 2, 3, 4
"""`C_SOURCE`: the first three, plus PULL where pulled authors were merged."""

# ---- kinds of events
(RESUME, START, ENDED, CORE_DUE, CORE_LEAVE, SHARING_DUE, BACKGROUND_DUE, FLUSHED, JOINED, GRANT, CONDITION, PATIENCE, LANDED,
 QUOTA_PERIOD, QUOTA_WAIT, ARRIVAL, OPERATION_START, OPERATION_RESUME, OPERATION_RETRY, DEADLINE, PAIR_START, PAIR_POLL, NULL_DUE,
 NULL_START, LOOP_WAKE, LOOP_POLL, LOOP_GATHERED, LOOP_AROUND, LOOP_HANDLED, LANE_START, LANE_GO, LANE_RETRY, LANE_ENDED,
 TASK_DONE, RESULT) = range(35)

# ---- operations
(OP_END, OP_CPU, OP_DELAY, OP_FLUSH, OP_ACQUIRE, OP_RELEASE, OP_BRANCH, OP_JUMP, OP_CALL, OP_RETURNED, OP_EACH, OP_PARALLEL,
 OP_LOOP, OP_NEXT, OP_ONCE, OP_LANDED, OP_PUBLISH, OP_EFFECT, OP_FAIL, OP_UNLOOP) = range(20)
TRACED_AS = {OP_CPU: "Cpu", OP_DELAY: "Delay", OP_FLUSH: "Flush", OP_ACQUIRE: "Acquire", OP_RELEASE: "Release",
             OP_BRANCH: "Branch", OP_CALL: "Call", OP_EACH: "Each", OP_PARALLEL: "Parallel", OP_LOOP: "Loop", OP_ONCE: "Once",
             OP_PUBLISH: "Publish", OP_EFFECT: "Effect", OP_FAIL: "Fail"}
"""Operation -> the kind of step that the reference engine traces for it."""
OPERANDS = 8
PLAIN, SEAT, SLOT = 0, 1, 2
"""Where an operation finds its pool: a plain one, the seats of a fleet, a slot of the instance in a fleet."""
