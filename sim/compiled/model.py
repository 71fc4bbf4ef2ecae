"""Decisions, sizes, lists and effects of the routes on arrays: `sim.model` and `sim.views`, name by name.

The tables at the end give each name of a program its number; a name without one is an error before the run. Decisions are
the services' own functions, compiled.
"""

from __future__ import annotations

from sim import services, views
from sim.compiled.events import Table
from sim.compiled.jit import inline, jit
from sim.compiled.layout import *
from sim.compiled.world import (
    AUTHOR,
    FOLLOWERS,
    FOLLOWING,
    HOME,
    U_FOLLOWERS,
    U_FOLLOWING,
    U_HOME,
    U_LISTS,
    U_MODE,
    U_MODE_MS,
    U_RECENT,
    W_DELETED,
    W_HOT,
    build_page,
    complete,
    delete,
    entries_per_follower,
    follow,
    insert,
    insert_recent,
    pulled_of,
    push,
    push_effort,
    unfollow,
    write,
)  # fmt: skip
from system.kernel.resilience import rate_window
from system.services.fanout import policy as fanout_policy
from system.services.gateway import policy as gateway_policy

(SHED_TARGET, SHED_INTERVAL, PUSH_LIMIT, HYSTERESIS, MODE_TTL, CHUNK, CAP, HISTORY, PRIVACY_TTL, WINDOW, USER_LIMIT,
 RETRY_ATTEMPTS, RETRY_BASE, RETRY_MOST, RETRY_BUDGET, BREAKER_FAILURES, BREAKER_OPEN, CLIENT_TOKENS, CREDIT, CREDIT_AT,
 CLIENT_ATTEMPTS, LIMITS) = range(22)
"""Columns of `knobs`, float64; from LIMITS on the limit of each route's class (0: none, -1: not limited), then the number of
the windows in which each route counts.
"""

decide = jit(fanout_policy.decide)
sheds = jit(gateway_policy.sheds)
slot_of = jit(rate_window.slot_of)
in_window = jit(rate_window.in_window)
PUSH_MODE, PULL_MODE, NO_MODE = fanout_policy.PUSH_MODE, fanout_policy.PULL_MODE, fanout_policy.NO_MODE
SLOTS = rate_window.SLOTS
VIEW_SHARED_S, BAND_TTL_S, REFRESH_AT, OWN_WORDS = views.VIEW_SHARED_S, views.BAND_TTL_S, views.REFRESH_AT, views.OWN_WORDS

ROUTES = (*sorted(services.ROUTES), "null", "batch", "start")
FOLLOW, APPROVED, DELETE = ROUTES.index("follow"), ROUTES.index("follow_approve"), ROUTES.index("delete")
FLEET = {name: number for number, name in enumerate(services.SCALED)}
GATEWAY, SEARCH = FLEET[services.GATEWAY], FLEET[services.SEARCH]

X_EDGE, X_BAND, X_BAND_AT = 0, 1, 2
"""Columns of `extra`, a row per operation: picture at the edge, process and time of a search for its own words."""
EXTRA_WIDTH = 3


@inline
def process_of(rows: Table, contexts: Table, ctx: int, fleet: int) -> int:
    """Return the process that serves a request."""
    instance = contexts[ctx, C_AT + fleet]
    if not instance:
        instance = rows[rows[0, FLEETS] + fleet, S_FIRST]
    return rows[instance, I_PROCESS]


# ---- predicates -------------------------------------------------------------------------------------------

@jit
def over_limit(rows: Table, contexts: Table, windows: Table, knobs: Table, ctx: int) -> bool:
    """Count a request in its caller's windows; return whether a quota is used up."""
    route, user = contexts[ctx, C_ROUTE], contexts[ctx, C_USER]
    limits = (int(knobs[LIMITS + route]), int(knobs[USER_LIMIT]) if knobs[LIMITS + route] >= 0.0 else 0)
    slot = slot_of(rows[0, NOW] / 1e9, knobs[WINDOW] / SLOTS)
    callers = windows.shape[0] // (len(ROUTES) + 1)
    first = int(knobs[LIMITS + len(ROUTES) + route]) * callers + user
    last = len(ROUTES) * callers + user
    for number in range(2):
        if limits[number] > 0:
            at = first if number == 0 else last
            counted = 0
            for place in range(SLOTS + 1):
                if windows[at, 2 * place + 1] and in_window(windows[at, 2 * place], slot):
                    counted += windows[at, 2 * place + 1]
            if counted >= limits[number]:
                return True
    for number in range(2):
        if limits[number] > 0:
            at = first if number == 0 else last
            place = slot % (SLOTS + 1)
            if windows[at, 2 * place] != slot:
                windows[at, 2 * place], windows[at, 2 * place + 1] = slot, 0
            windows[at, 2 * place + 1] += 1
    return False


@jit
def lists_missing(rows: Table, contexts: Table, users: Table, edges: Table, ctx: int) -> bool:
    """Look up the lists of a home read: the reader's own and those of followed pulled authors."""
    user = contexts[ctx, C_USER]
    pulled = pulled_of(rows, users, edges, user) if rows[0, PULLED] else 0
    missing = not (users[user, U_LISTS + HOME] and users[user, U_LISTS + FOLLOWING] and users[user, U_LISTS + AUTHOR])
    start = users[user, U_FOLLOWING]
    for place in range(start, start + users[user, U_FOLLOWING + 1] if pulled else start):
        if edges[edges.shape[0] - 1 - edges[place]] and not users[edges[place], U_LISTS + AUTHOR]:
            missing = True
    contexts[ctx, C_PULLED] = pulled
    contexts[ctx, C_SOURCE] = (REBUILD if missing else HIT) + (PULL if pulled else 0)
    return missing


@inline
def predicate(rows: Table, floats: Table, contexts: Table, users: Table, edges: Table, extra: Table, windows: Table, knobs: Table,
              job: int, code: int) -> bool:
    """Return whether predicate number `code` holds for a job."""
    ctx, now_ns = rows[job, J_CONTEXT], rows[0, NOW]
    if code == 0:
        return rows[rows[0, REDIS], N_DOWN] != 0
    if code == 1:
        own = rows[process_of(rows, contexts, ctx, GATEWAY), N_NUMBER]
        refused, floats[own, ABOVE_SINCE] = sheds((now_ns - contexts[ctx, C_ARRIVED]) / 1e9, now_ns / 1e9,
                                                  floats[own, ABOVE_SINCE], knobs[SHED_TARGET], knobs[SHED_INTERVAL])
        return refused
    if code == 2:
        return windows.shape[0] > 0 and over_limit(rows, contexts, windows, knobs, ctx)
    if code == 3:
        return lists_missing(rows, contexts, users, edges, ctx)
    if code == 4:
        return contexts[ctx, C_COLD] != 0
    if code == 5:
        return contexts[ctx, C_ABSENT] > 0
    if code == 6:
        absent = users[contexts[ctx, C_TARGET], U_LISTS + AUTHOR] == 0
        contexts[ctx, C_SOURCE] = REBUILD if absent else HIT
        return absent
    if code == 7:
        return rows[job, J_KIND] == HOME
    if code == 8:
        return rows[job, J_KIND] == FOLLOWING
    if code == 9:
        return contexts[ctx, C_PATH] == PUSH_MODE
    if code == 10:
        return contexts[ctx, C_ROUTE] == FOLLOW
    if code == 11:
        one = contexts[ctx, C_BATCH]
        for _ in range(contexts[ctx, C_BATCHED]):
            if contexts[one, C_ROUTE] != DELETE:
                return True
            one = contexts[one, C_NEXT]
        return False
    if code == 12:
        return contexts[ctx, C_TWEET] != 0
    if code == 13:
        return contexts[ctx, C_CHANGED] != 0
    if code == 14:
        return extra[contexts[ctx, C_INDEX], X_EDGE] != 0
    if code == 15:
        view_ns = rows[process_of(rows, contexts, ctx, SEARCH), V_VIEW]
        return view_ns == NEVER or now_ns / 1e9 >= view_ns / 1e9 + VIEW_SHARED_S
    if code == 16:
        process = process_of(rows, contexts, ctx, SEARCH)
        at = extra.shape[0] - 1 - contexts[ctx, C_TARGET] if contexts[ctx, C_INDEX] % OWN_WORDS else contexts[ctx, C_INDEX]
        return extra[at, X_BAND] != process or now_ns / 1e9 >= extra[at, X_BAND_AT] / 1e9 + BAND_TTL_S
    if code == 17:
        return rows[0, PULLED] != 0
    process = process_of(rows, contexts, ctx, (code - 20) >> 1)
    read_ns = rows[process, V_PRIVACY]
    age_s = now_ns / 1e9 - read_ns / 1e9
    if code & 1 == 0:
        return read_ns == NEVER or age_s >= knobs[PRIVACY_TTL]
    if rows[process, V_READING] or (read_ns != NEVER and age_s < knobs[PRIVACY_TTL] * REFRESH_AT):
        return False
    rows[process, V_READING] = 1
    return True


# ---- sizes and lists --------------------------------------------------------------------------------------

@inline
def size(rows: Table, contexts: Table, users: Table, edges: Table, knobs: Table, job: int, code: int) -> float:
    """Return size number `code` of a job."""
    ctx = rows[job, J_CONTEXT]
    if code == 1:
        return 1.0
    if code == 2:
        return float(contexts[ctx, C_PAGED])
    if code == 3:
        cold, many = contexts[ctx, C_COLD], 0
        while cold:
            many += cold & 1
            cold >>= 1
        return float(many)
    if code == 4:
        return float(contexts[ctx, C_PULLED])
    if code == 5:
        return float(contexts[ctx, C_ABSENT])
    if code == 6:
        return float(users[contexts[ctx, C_USER], U_FOLLOWING + 1] + 1)
    if code == 7:
        return float(users[rows[job, J_ITEM], U_FOLLOWING + 1])
    if code == 8:
        return min(knobs[CAP], (users[contexts[ctx, C_USER], U_FOLLOWING + 1] + 1) * knobs[HISTORY])
    if code == 9:
        return knobs[HISTORY]
    if code == 13:
        return (users[contexts[ctx, C_USER], U_FOLLOWING + 1] + 1) * knobs[HISTORY]
    if code == 14:
        return float(users[rows[job, J_ITEM], U_RECENT])
    if code == 15:
        return float(rows[0, PULLED])
    if code == 16:
        return rows[job, J_ITEM] * push_effort(users, edges, contexts[ctx, C_USER])
    if code == 17:
        return rows[job, J_ITEM] * entries_per_follower(users, edges, contexts[ctx, C_USER], int(knobs[HISTORY]), int(knobs[CAP]))
    if code == 10:
        return float(contexts[ctx, C_AUDIENCE])
    if code == 11:
        return float(contexts[ctx, C_DISTINCT] if contexts[ctx, C_DISTINCT] else contexts[ctx, C_BATCHED])
    return float(rows[job, J_ITEM])


@jit
def list_items(rows: Table, contexts: Table, users: Table, edges: Table, items: Table, job: int, code: int) -> int:
    """Write the (kind, owner) of list number `code` into `items`; return how many there are."""
    ctx, many = rows[job, J_CONTEXT], 0
    user = contexts[ctx, C_USER]
    start, following = users[user, U_FOLLOWING], users[user, U_FOLLOWING + 1]
    if code == 1:
        for kind in (HOME, FOLLOWING, AUTHOR):
            if not users[user, U_LISTS + kind]:
                items[many, 0], items[many, 1] = kind, user
                many += 1
        for number in range(following if contexts[ctx, C_PULLED] else 0):
            author = edges[start + number]
            if edges[edges.shape[0] - 1 - author] and not users[author, U_LISTS + AUTHOR]:
                items[many, 0], items[many, 1] = AUTHOR, author
                many += 1
    elif code == 2 or code == 5:
        for number in range(following + 1):
            author = edges[start + number] if number < following else user
            if code == 5 or not users[author, U_LISTS + AUTHOR]:
                items[many, 0], items[many, 1] = AUTHOR, author
                many += 1
    elif code == 3 or code == 4:
        kind = FOLLOWING if code == 3 else FOLLOWERS
        if not users[user, U_LISTS + kind]:
            items[0, 0], items[0, 1] = kind, user
            many = 1
    elif code == 6:
        items[0, 0], items[0, 1] = AUTHOR, contexts[ctx, C_TARGET]
        many = 1
    return many


@jit
def chunks(contexts: Table, knobs: Table, ctx: int) -> int:
    """Return the number of push calls of a tweet: system.services.fanout.policy.chunks."""
    return max(-(-contexts[ctx, C_AUDIENCE] // int(knobs[CHUNK])), 1)


@jit
def chunk(contexts: Table, knobs: Table, ctx: int, number: int) -> int:
    """Return the number of followers of push call `number`."""
    return max(min(int(knobs[CHUNK]), contexts[ctx, C_AUDIENCE] - number * int(knobs[CHUNK])), 0)


# ---- effects ----------------------------------------------------------------------------------------------

@jit
def look_up(contexts: Table, tweets: Table, ctx: int) -> None:
    """Note which tweets of a request's page are not in the cache."""
    cold = 0
    for place in range(contexts[ctx, C_PAGED]):
        cold |= (tweets[contexts[ctx, C_PAGE + place], W_HOT] == 0) << place
    contexts[ctx, C_COLD] = cold


@jit
def page_from(contexts: Table, users: Table, ctx: int, user: int) -> None:
    """Copy a page of a row of `users` into a request."""
    contexts[ctx, C_PAGED] = users[user, U_HOME]
    for place in range(users[user, U_HOME]):
        contexts[ctx, C_PAGE + place] = users[user, U_HOME + 1 + place]


@jit
def home_page(contexts: Table, users: Table, tweets: Table, edges: Table, ctx: int) -> None:
    """Assemble the page of a home read, merged with pulled authors."""
    user = contexts[ctx, C_USER]
    cached = users[user, U_LISTS + HOME] != 0
    if not cached:
        build_page(users, tweets, edges, user)
    page_from(contexts, users, ctx, user if cached else 0)
    if contexts[ctx, C_PULLED]:
        users[0, U_HOME] = 0
        for place in range(contexts[ctx, C_PAGED]):
            insert(users, contexts[ctx, C_PAGE + place])
        start = users[user, U_FOLLOWING]
        for place in range(start, start + users[user, U_FOLLOWING + 1]):
            if edges[edges.shape[0] - 1 - edges[place]]:
                insert_recent(users, edges[place])
        page_from(contexts, users, ctx, 0)


@jit
def recent_page(contexts: Table, users: Table, ctx: int, author: int, most: int) -> None:
    """Copy an author's newest tweets into a request, ascending."""
    many = users[author, U_RECENT]
    kept = min(many, most)
    contexts[ctx, C_PAGED] = kept
    for place in range(kept):
        contexts[ctx, C_PAGE + place] = users[author, U_RECENT + 1 + many - kept + place]


@jit
def fan_out_decided(rows: Table, contexts: Table, users: Table, edges: Table, knobs: Table, ctx: int) -> None:
    """Decide between push and pull."""
    user = contexts[ctx, C_USER]
    audience = users[user, U_FOLLOWERS + 1]
    now_ms = rows[0, START_MS] + rows[0, NOW] // 1_000_000
    path, change = decide(audience, users[user, U_MODE], now_ms - users[user, U_MODE_MS], int(knobs[PUSH_LIMIT]),
                          knobs[HYSTERESIS], knobs[MODE_TTL])
    contexts[ctx, C_AUDIENCE], contexts[ctx, C_PATH], contexts[ctx, C_CHANGED] = audience, path, change != NO_MODE
    if change != NO_MODE:
        users[user, U_MODE], users[user, U_MODE_MS] = change, now_ms
        rows[0, PULLED] += 1 - edges[edges.shape[0] - 1 - user]
        edges[edges.shape[0] - 1 - user] = 1


@jit
def note(rows: Table, contexts: Table, effects: Table, ctx: int, path: int, targets: int) -> None:
    """Add a line to the workers' effect log: (context, path, targets, ns)."""
    at = rows[0, EFFECTS]
    effects[at, 0], effects[at, 1], effects[at, 2], effects[at, 3] = ctx, path, targets, rows[0, NOW]
    rows[0, EFFECTS] = at + 1


INDEXED = 9  # instead of a path in the effect log


@inline
def effect(rows: Table, contexts: Table, users: Table, tweets: Table, edges: Table, extra: Table, effects: Table, knobs: Table,
           job: int, code: int) -> None:
    """Apply effect number `code`."""
    ctx = rows[job, J_CONTEXT]
    user, target = contexts[ctx, C_USER], contexts[ctx, C_TARGET]
    if code == 0:
        home_page(contexts, users, tweets, edges, ctx)
        look_up(contexts, tweets, ctx)
    elif code == 1:
        recent_page(contexts, users, ctx, target, PAGE)
        look_up(contexts, tweets, ctx)
    elif code == 2:
        contexts[ctx, C_PAGED], contexts[ctx, C_PAGE] = 1, target if target else rows[0, LAST_POSTED]
        look_up(contexts, tweets, ctx)
        contexts[ctx, C_SOURCE] = DIRECT if contexts[ctx, C_COLD] else HIT
    elif code == 3:
        contexts[ctx, C_PAGED], contexts[ctx, C_PAGE] = 1, contexts[ctx, C_TWEET]
        look_up(contexts, tweets, ctx)
    elif code == 4:
        recent_page(contexts, users, ctx, target % (users.shape[0] - 1) + 1, 10)
        look_up(contexts, tweets, ctx)
    elif code == 5:
        contexts[ctx, C_SOURCE] = DIRECT
    elif code == 6:
        one = contexts[ctx, C_BATCH]
        for _ in range(contexts[ctx, C_BATCHED]):
            if contexts[one, C_ROUTE] != DELETE and not tweets[contexts[one, C_TWEET], W_DELETED]:
                tweets[contexts[one, C_TWEET], W_HOT] = 1
            one = contexts[one, C_NEXT]
    elif code == 7:
        for place in range(contexts[ctx, C_PAGED]):
            if contexts[ctx, C_COLD] >> place & 1:
                tweets[contexts[ctx, C_PAGE + place], W_HOT] = 1
    elif code == 8:
        contexts[ctx, C_EPOCH] = rows[0, LOSSES]
    elif code == 9:
        absent = users[user, U_LISTS + AUTHOR] == 0
        many = 1 if absent else 0
        for number in range(users[user, U_FOLLOWING + 1]):
            many += users[edges[users[user, U_FOLLOWING] + number], U_LISTS + AUTHOR] == 0
        contexts[ctx, C_ABSENT] = many
    elif code == 10:
        if contexts[ctx, C_EPOCH] == rows[0, LOSSES]:
            complete(users, tweets, edges, rows[job, J_KIND], rows[job, J_ITEM])
    elif code == 11:
        contexts[ctx, C_TWEET] = write(rows, users, tweets, user)
    elif code == 12:
        contexts[ctx, C_TWEET] = delete(users, tweets, user)
    elif code == 13:
        follow(rows, users, edges, user, target)
    elif code == 14:
        follow(rows, users, edges, target, user)
    elif code == 15:
        unfollow(rows, users, edges, user, target)
    elif code == 16:
        if users[user, U_LISTS + HOME]:
            complete(users, tweets, edges, HOME, user)
    elif code == 17:
        users[user, U_LISTS + HOME] = users[user, U_LISTS + FOLLOWING] = users[target, U_LISTS + FOLLOWERS] = 0
    elif code == 18:
        for number in range(users[user, U_FOLLOWERS + 1]):
            push(users, contexts[ctx, C_TWEET], edges[users[user, U_FOLLOWERS] + number])
    elif code == 19:
        fan_out_decided(rows, contexts, users, edges, knobs, ctx)
    elif code == 20:
        note(rows, contexts, effects, ctx, contexts[ctx, C_PATH], contexts[ctx, C_AUDIENCE])
    elif code == 21:
        one = contexts[ctx, C_BATCH]
        for _ in range(contexts[ctx, C_BATCHED]):
            note(rows, contexts, effects, one, INDEXED, 1)
            one = contexts[one, C_NEXT]
    elif code == 22:
        rows[process_of(rows, contexts, ctx, SEARCH), V_VIEW] = rows[0, NOW]
    elif code == 23:
        at = extra.shape[0] - 1 - target if contexts[ctx, C_INDEX] % OWN_WORDS else contexts[ctx, C_INDEX]
        extra[at, X_BAND], extra[at, X_BAND_AT] = process_of(rows, contexts, ctx, SEARCH), rows[0, NOW]
    elif code == 24:
        extra[contexts[ctx, C_INDEX], X_EDGE] = 1
    elif code == 25:
        author = rows[job, J_ITEM]
        for place in range(users[author, U_RECENT]):
            tweets[users[author, U_RECENT + 1 + place], W_HOT] = 1
    elif code >= 30:
        process = process_of(rows, contexts, ctx, code - 30)
        rows[process, V_PRIVACY], rows[process, V_READING] = rows[0, NOW], 0


# ---- the number of each name ------------------------------------------------------------------------------

PREDICATES = {
    "cache_away": 0, "queue_too_long": 1, "over_limit": 2, "lists_missing": 3, "page_is_cold": 4, "authors_absent": 5,
    "author_absent": 6, "item_is_home": 7, "item_is_following": 8, "is_pushed": 9, "is_follow": 10, "creates": 11,
    "had_tweet": 12, "changes_mode": 13, "edge_cached": 14, "index_view_is_old": 15, "band_unknown": 16, "any_pulled": 17,
    **{f"{one}.privacy_expired": 20 + 2 * FLEET[one] for one in services.READERS},
    **{f"{one}.privacy_ages": 21 + 2 * FLEET[one] for one in services.READERS},
}  # fmt: skip
SIZES = {
    "one": 1, "page": 2, "cold": 3, "merged_lists": 4, "absent": 5, "lists": 6, "followings": 7, "timeline_entries": 8,
    "author_entries": 9, "audience": 10, "batch": 11, "chunk": 12,
    "source_entries": 13, "kept": 14, "pulled_authors": 15, "live_chunk": 16, "removed_entries": 17,
}  # fmt: skip
ITEMS = {
    "missing_lists": 1, "absent_authors": 2, "absent_followings": 3, "absent_followers": 4, "all_authors": 5, "the_author": 6,
}  # fmt: skip
EFFECT_NAMES = (
    "home_page", "author_page", "one_tweet", "event_page", "found_page", "read_directly", "batch_is_hot", "page_is_hot",
    "list_begins", "sources_known", "list_completed", "tweet_durable", "tweet_deleted", "follow", "approve", "unfollow",
    "back_filled", "lists_dropped", "pushed", "fan_out_decided", "delivered", "indexed", "index_view_opened", "band_known",
    "edge_stores", "author_is_hot",
)  # fmt: skip
EFFECTS_BY_NAME = {
    **{name: number for number, name in enumerate(EFFECT_NAMES)},
    **{f"{one}.privacy_read": 30 + FLEET[one] for one in services.READERS},
}
"""Besides these the kernel itself does the time stamps (`STAMPS` in `sim.compiled.link`) and `published`."""
