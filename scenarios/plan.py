"""What a scenario plans, as a set of labels. They decide which invariants apply to its run.

    mix, population, faults, policies -> plan_of(scenario) -> {"posts", "seeded tweets", "faults", ...}

Everything here is known before the first request is sent. A route with share 0 plans nothing; neither does
one whose operations the tape replaces by others (an unfollow where no follow exists). Which requests were
acknowledged does not matter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from scenarios import spec, vocabulary

POSTS, DELETES, FOLLOWS, UNFOLLOWS = "posts", "deletes", "follows", "unfollows"
APPROVALS, LIKES, PICTURES, WRITES = "approvals of follow requests", "likes", "pictures", "writes"
SEEDED_TWEETS, SEEDED_FOLLOWS, SEEDED_LIKES = "seeded tweets", "seeded follows", "seeded likes"
CACHED_LISTS, LIMITED_REQUESTS, FAULTS = "cached lists", "requests under a rate limit", "faults"

WORDS: dict[str, str] = {
    POSTS: "`post` or `reply` in the mix; also `delete`, which becomes a post while there is nothing to delete",
    DELETES: "`delete` in the mix",
    FOLLOWS: "`follow` in the mix, and users who are not protected",
    UNFOLLOWS: "`unfollow` in the mix, and seeded follows of users who are not protected",
    APPROVALS: "`follow_request` and `follow_approve` in the mix, and protected users",
    LIKES: "`like` in the mix, and seeded tweets",
    PICTURES: "`media` in the mix",
    WRITES: "any route in the mix that writes",
    SEEDED_TWEETS: "`population.history` above 0",
    SEEDED_FOLLOWS: "`population.follows.mean` above 0, or a graph file",
    SEEDED_LIKES: "`population.likes` above 0, and seeded tweets",
    CACHED_LISTS: "`home` or `user_tweets` in the mix, posts while `fanout.push_limit` is above 0, or a warm cache that "
                  "no fault empties",
    LIMITED_REQUESTS: "a route in the mix whose class of `policies.limits` is above 0, with a window above 0 s",
    FAULTS: "a fault in `faults`",
}
"""Label of a plan -> the content of a scenario that implies it."""

WARMED_USERS = 10_000
"""The largest population whose cache is warmed; warming a larger one would take minutes."""

EMPTIES_CACHE = frozenset({"cache_loss", "region_cut", "region_loss", "zone_loss"})
"""Faults that may empty the cache. A `kill` of Redis is another."""

Plan = frozenset[str]


def routes_of(scenario: spec.Scenario) -> frozenset[str]:
    """Return the routes with a share above 0 in a stage that has operations; a stage may have its own mix."""
    work = scenario.workload
    busy = [stage for stage in work.stages if stage.for_s * (stage.rate_from + stage.rate_to) > 0]
    return frozenset(route for stage in busy for route, share in (stage.mix or work.mix).items() if share > 0)


def plan_of(
    scenario: spec.Scenario,
    drawn: Collection[str] | None = None,
    users: int | None = None,
    *,
    kept_data: bool = False,
) -> Plan:
    """Return the labels of WORDS that apply to `scenario`.

    `drawn`: routes of the tape that have operations; None for those of the mix. `users`: number of users of a
    graph file; None for `population.users`. `kept_data`: the run starts on data of earlier runs, which may
    contain tweets and follows whatever the population says.
    """
    population = scenario.population
    routes = routes_of(scenario) if drawn is None else frozenset(drawn)
    count = users if users is not None else population.users
    protected = round(count * population.protected)
    tweets = kept_data or population.history_tweets > 0
    edges = kept_data or population.graph is not None or round(count * population.follows.mean) > 0
    holds = {
        POSTS: bool(routes & {"post", "reply", "delete"}),
        DELETES: "delete" in routes,
        FOLLOWS: "follow" in routes and protected < count,
        UNFOLLOWS: "unfollow" in routes and edges and protected < count,
        APPROVALS: {"follow_request", "follow_approve"} <= routes and protected > 0,
        LIKES: "like" in routes and tweets,
        PICTURES: "media" in routes,
        SEEDED_TWEETS: tweets,
        SEEDED_FOLLOWS: edges,
        SEEDED_LIKES: round(count * population.history_tweets * population.likes) > 0,
        LIMITED_REQUESTS: _limited(scenario, routes),
        FAULTS: bool(scenario.faults),
    }
    holds[WRITES] = any(holds[word] for word in (POSTS, FOLLOWS, UNFOLLOWS, APPROVALS, LIKES, PICTURES)) or (
        "follow_request" in routes and protected > 0
    )
    holds[CACHED_LISTS] = (
        bool(routes & {"home", "user_tweets"})
        or _stays_warm(scenario, count)
        or (holds[POSTS] and scenario.policies.fanout.push_limit > 0)
    )
    return frozenset(word for word, held in holds.items() if held)


def _limited(scenario: spec.Scenario, routes: frozenset[str]) -> bool:
    limits = dataclasses.asdict(scenario.policies.limits)
    classes = {kind for route, (_, kind) in vocabulary.LIMIT_CLASSES.items() if route in routes}
    return limits["window_s"] > 0 and any(limits[kind] for kind in classes)


def _stays_warm(scenario: spec.Scenario, users: int) -> bool:
    emptied = any(
        fault.kind in EMPTIES_CACHE or (fault.kind == "kill" and fault.target.startswith("redis"))
        for fault in scenario.faults
    )
    return scenario.population.cache == "warm" and users <= WARMED_USERS and not emptied
