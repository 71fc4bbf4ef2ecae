"""The data of the model on arrays: `sim.state.World`, method by method.

A tweet is its number in order of time, from 1; `tweets` has its id. A user is a row of `users`: their cached lists, their
newest tweets, and where `edges` holds the users that they follow and that follow them; at its end `edges` has a 1 for each
pulled author. Row 0 of `users` is scratch.
"""

from __future__ import annotations

from sim.compiled.events import Table
from sim.compiled.jit import jit, kernel
from sim.compiled.layout import *
from sim.state import ABSENT_PUSH
from system.kernel import ids

HOME, AUTHOR, FOLLOWERS, FOLLOWING = 0, 1, 2, 3
"""Kinds of list; the columns U_LISTS + kind say whether one is complete, U_FLIGHTS + kind which build is under way."""
(U_LISTS, U_FLIGHTS, U_HOME, U_RECENT, U_FIRST) = 0, 4, 8, 29, 50
"""The last three: a number of tweets, then up to PAGE of them: cached timeline, own newest (ascending), first page."""
(U_CHANGED, U_POSTED, U_MODE, U_MODE_MS, U_DIFFERENCES, U_PULLED) = range(71, 77)
U_FOLLOWERS, U_FOLLOWING = 77, 80
"""Each: place in `edges`, number, room."""
USER_WIDTH = 83
W_ID, W_HOT, W_DELETED, W_BEFORE, W_STAMP = range(5)
TWEET_WIDTH = 5

floor_id = jit(ids.floor_id)
MAX_SEQUENCE = ids.MAX_SEQUENCE


# ---- a page: newest first, in the scratch row -------------------------------------------------------------

@jit
def insert(users: Table, tweet: int) -> None:
    """Insert a tweet into the page in the scratch row, which holds each tweet once and at most PAGE."""
    count = users[0, U_HOME]
    at = count
    while at > 0 and users[0, U_HOME + at] < tweet:
        at -= 1
    if (at > 0 and users[0, U_HOME + at] == tweet) or at >= PAGE:
        return
    last = min(count + 1, PAGE)
    for place in range(last, at + 1, -1):
        users[0, U_HOME + place] = users[0, U_HOME + place - 1]
    users[0, U_HOME + at + 1] = tweet
    users[0, U_HOME] = last


@jit
def insert_recent(users: Table, author: int) -> None:
    """Insert an author's newest tweets, newest first: the first that does not fit ends it."""
    for place in range(users[author, U_RECENT], 0, -1):
        tweet = users[author, U_RECENT + place]
        if users[0, U_HOME] == PAGE and tweet < users[0, U_HOME + PAGE]:
            return
        insert(users, tweet)


@jit
def build_page(users: Table, tweets: Table, edges: Table, viewer: int) -> None:
    """Put the viewer's first page, from the stores, into the scratch row."""
    start, many = users[viewer, U_FOLLOWING], users[viewer, U_FOLLOWING + 1]
    users[0, U_HOME] = 0
    changed_edges = users[viewer, U_DIFFERENCES] != 0
    if not changed_edges:
        for place in range(1, users[viewer, U_FIRST] + 1):
            tweet = users[viewer, U_FIRST + place]
            if not tweets[tweet, W_DELETED]:
                insert(users, tweet)
    for number in range(many + 1):
        author = edges[start + number] if number < many else viewer
        if changed_edges or users[author, U_CHANGED]:
            insert_recent(users, author)


@kernel
def first_pages(users: Table, edges: Table) -> None:
    """Store every user's first page at the start of the run."""
    for viewer in range(1, users.shape[0]):
        start, many = users[viewer, U_FOLLOWING], users[viewer, U_FOLLOWING + 1]
        users[0, U_HOME] = 0
        for number in range(many + 1):
            insert_recent(users, edges[start + number] if number < many else viewer)
        for place in range(PAGE + 1):
            users[viewer, U_FIRST + place] = users[0, U_HOME + place]


# ---- the stores -------------------------------------------------------------------------------------------

@jit
def find(edges: Table, start: int, many: int, user: int) -> int:
    """Return the place of `user` in a list of users, -1 if it is not there."""
    for place in range(start, start + many):
        if edges[place] == user:
            return place
    return -1


@jit
def move(rows: Table, users: Table, edges: Table, owner: int, column: int) -> None:
    """Move a list of users to a place of its own, with room for more."""
    start, many = users[owner, column], users[owner, column + 1]
    room, moved = 2 * many + 4, edges[0]
    if moved + room >= edges.shape[0] - users.shape[0]:
        rows[0, STOP] = OVERFLOW
        return
    edges[0] = moved + room
    for place in range(many):
        edges[moved + place] = edges[start + place]
    users[owner, column], users[owner, column + 2] = moved, room


@jit
def add_edge(rows: Table, users: Table, edges: Table, owner: int, column: int, user: int) -> None:
    """Add `user` to a list of users."""
    if users[owner, column] < edges[1] or users[owner, column + 1] == users[owner, column + 2]:
        move(rows, users, edges, owner, column)
    edges[users[owner, column] + users[owner, column + 1]] = user
    users[owner, column + 1] += 1


@jit
def remove_edge(rows: Table, users: Table, edges: Table, owner: int, column: int, user: int) -> None:
    """Remove `user` from a list of users; the others keep their order."""
    if users[owner, column] < edges[1]:
        move(rows, users, edges, owner, column)
    start, many = users[owner, column], users[owner, column + 1]
    place = find(edges, start, many, user)
    if place >= 0:
        for one in range(place, start + many - 1):
            edges[one] = edges[one + 1]
        users[owner, column + 1] = many - 1


@jit
def follows(users: Table, edges: Table, viewer: int, author: int) -> bool:
    """Return whether the edge exists."""
    return find(edges, users[viewer, U_FOLLOWING], users[viewer, U_FOLLOWING + 1], author) >= 0


@jit
def seeded(users: Table, edges: Table, viewer: int, author: int) -> bool:
    """Return whether the edge existed at the start: the lists below edges[1] never change."""
    place = edges[2 + viewer]
    many = edges[3 + viewer] - place
    return find(edges, place, many, author) >= 0


@jit
def follow(rows: Table, users: Table, edges: Table, viewer: int, author: int) -> None:
    """Add the edge."""
    if not follows(users, edges, viewer, author):
        users[viewer, U_DIFFERENCES] += -1 if seeded(users, edges, viewer, author) else 1
        add_edge(rows, users, edges, viewer, U_FOLLOWING, author)
        add_edge(rows, users, edges, author, U_FOLLOWERS, viewer)


@jit
def unfollow(rows: Table, users: Table, edges: Table, viewer: int, author: int) -> None:
    """Remove the edge."""
    if follows(users, edges, viewer, author):
        users[viewer, U_DIFFERENCES] += 1 if seeded(users, edges, viewer, author) else -1
        remove_edge(rows, users, edges, viewer, U_FOLLOWING, author)
        remove_edge(rows, users, edges, author, U_FOLLOWERS, viewer)


@jit
def push(users: Table, tweet: int, viewer: int) -> None:
    """Add a tweet to a viewer's timeline if that is cached."""
    if not users[viewer, U_LISTS + HOME]:
        return
    many, known = users[viewer, U_HOME], False
    for place in range(PAGE):  # constant bounds: the loops become a few vector instructions
        known |= (users[viewer, U_HOME + 1 + place] == tweet) & (place < many)
    if known:
        return
    for place in range(PAGE - 1, 0, -1):
        users[viewer, U_HOME + 1 + place] = users[viewer, U_HOME + place]
    users[viewer, U_HOME + 1] = tweet
    users[viewer, U_HOME] = min(many + 1, PAGE)


@jit
def write(rows: Table, users: Table, tweets: Table, author: int) -> int:
    """Store a new tweet of `author`, in their own lists too, and return its number."""
    tweet = rows[0, NEXT_TWEET]
    if tweet >= tweets.shape[0]:
        rows[0, STOP] = OVERFLOW
        return 0
    rows[0, NEXT_TWEET] = tweet + 1
    rows[0, ID_SEQUENCE] = (rows[0, ID_SEQUENCE] + 1) & MAX_SEQUENCE
    tweets[tweet, W_ID] = floor_id(rows[0, START_MS] + int(rows[0, NOW] / 1e9 * 1000)) + rows[0, ID_SEQUENCE]
    tweets[tweet, W_BEFORE] = users[author, U_POSTED]
    users[author, U_POSTED] = tweet
    users[author, U_CHANGED] = 1
    many = users[author, U_RECENT]
    if many == PAGE:
        for place in range(1, PAGE):
            users[author, U_RECENT + place] = users[author, U_RECENT + place + 1]
        many -= 1
    users[author, U_RECENT + many + 1] = tweet
    users[author, U_RECENT] = many + 1
    push(users, tweet, author)
    rows[0, LAST_POSTED] = tweet
    return tweet


@jit
def delete(users: Table, tweets: Table, author: int) -> int:
    """Delete the author's last tweet of this run; return its number, 0 if there is none."""
    tweet = users[author, U_POSTED]
    if not tweet:
        return 0
    users[author, U_POSTED] = tweets[tweet, W_BEFORE]
    tweets[tweet, W_DELETED], tweets[tweet, W_HOT] = 1, 0
    many = users[author, U_RECENT]
    for place in range(1, many + 1):
        if users[author, U_RECENT + place] == tweet:
            for one in range(place, many):
                users[author, U_RECENT + one] = users[author, U_RECENT + one + 1]
            users[author, U_RECENT] = many - 1
            break
    return tweet


# ---- the cache --------------------------------------------------------------------------------------------

@jit
def complete(users: Table, tweets: Table, edges: Table, kind: int, owner: int) -> None:
    """Mark a list as complete after a build."""
    users[owner, U_LISTS + kind] = 1
    if kind == HOME:
        build_page(users, tweets, edges, owner)
        for place in range(PAGE + 1):
            users[owner, U_HOME + place] = users[0, U_HOME + place]


@jit
def pulled_of(rows: Table, users: Table, edges: Table, viewer: int) -> int:
    """Return the number of pulled authors that the viewer follows."""
    many, start = 0, users[viewer, U_FOLLOWING]
    for place in range(start, start + users[viewer, U_FOLLOWING + 1]):
        many += edges[edges.shape[0] - 1 - edges[place]]
    return many


@jit
def push_effort(users: Table, edges: Table, author: int) -> float:
    """Return the work of a push per follower: 1 where their timeline is cached, ABSENT_PUSH where it is not."""
    many, live = users[author, U_FOLLOWERS + 1], 0
    for number in range(many):
        live += users[edges[users[author, U_FOLLOWERS] + number], U_LISTS + HOME] != 0
    return ABSENT_PUSH + (1.0 - ABSENT_PUSH) * live / many if many else 1.0


@jit
def entries_per_follower(users: Table, edges: Table, author: int, history: int, cap: int) -> float:
    """Return the mean entries of the followers' cached timelines, which a removal rewrites; 0 for one that is not cached."""
    many, entries = users[author, U_FOLLOWERS + 1], 0
    for number in range(many):
        follower = edges[users[author, U_FOLLOWERS] + number]
        if users[follower, U_LISTS + HOME]:
            entries += min(cap, (users[follower, U_FOLLOWING + 1] + 1) * history)
    return entries / many if many else 0.0
