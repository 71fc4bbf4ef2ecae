"""Small histories whose verdicts are obvious."""

import numpy as np
import pandas as pd
import pytest

from chaos import fault_records, invariants
from chaos.evidence import bundle, history
from scenarios.world import population
from system.kernel import ids
from system.ports import Kind

S = 1_000_000_000
WALL_MS = 1_800_000_000_000
ANNA, BOB, CHER = 1, 2, 3


def tweet_at(second, sequence=0):
    """Return the id of a tweet that worker 1 issued in this second of the run."""
    return ids.compose(WALL_MS + second * 1000, 1, sequence)


def row(route, user, at_s, took_s=0.5, outcome="ok", **cells):
    attempt = {"route": route, "user": user, "sent_ns": int((100 + at_s) * S), "done_ns": int((100 + at_s + took_s) * S),
             "outcome": outcome, "session": f"s{user}"}
    return history.DEFAULTS | attempt | cells


def case(*rows, finals=None, effects=None, faults=()):
    """Bob follows Anna and Cher, Cher follows Anna; the run starts at second 0."""
    edges = (np.array([BOB, BOB, CHER]), np.array([ANNA, CHER, ANNA]))
    frame = pd.DataFrame([cells | {"op": number} for number, cells in enumerate(rows)])
    return bundle.Evidence(frame, effects if effects is not None else pd.DataFrame(), finals,
                             population.from_edges(*edges, users=3), bundle.RunClock(100 * S, WALL_MS), faults=tuple(faults))


def check(name, evidence):
    return invariants.INVARIANTS[name].check(evidence)


def page(route, user, at_s, tweets, **cells):
    columns = {"page_ids": [t for t, _ in tweets], "page_authors": [a for _, a in tweets]} | cells
    return row(route, user, at_s, **columns)


def test_a_read_before_the_bound_may_still_show_a_deleted_tweet():
    """A deleted tweet is a ghost only two seconds after the acknowledgement."""
    tweet = tweet_at(0)
    early = case(row("post", ANNA, 0, tweet_id=tweet), row("delete", ANNA, 2, target=tweet),
                 page("user_tweets", BOB, 4, [(tweet, ANNA)], target=ANNA))
    late = case(row("post", ANNA, 0, tweet_id=tweet), row("delete", ANNA, 2, target=tweet),
                page("user_tweets", BOB, 5, [(tweet, ANNA)], target=ANNA))

    assert check("no_ghost_after_delete_or_unfollow", early).verdict == "unknown"
    assert check("no_ghost_after_delete_or_unfollow", late).verdict == "fail"


def test_a_delete_without_an_answer_excuses_both_presence_and_absence():
    """`info` may have happened at any time: the tweet is neither lost nor a ghost."""
    tweet = tweet_at(0)
    evidence = case(row("post", ANNA, 0, tweet_id=tweet), row("delete", ANNA, 2, outcome="info", target=tweet),
                 page("user_tweets", ANNA, 9, [], target=ANNA),
                 finals=bundle.Finals(looked_up=frozenset({tweet}), by_id={}, by_author={ANNA: {}}))

    assert check("no_acknowledged_tweet_lost", evidence).violations == ()
    assert check("no_ghost_after_delete_or_unfollow", evidence).violations == ()
    assert check("read_your_writes", evidence).violations == ()


def test_a_refollow_in_flight_excuses_a_page_with_the_unfollowed_author():
    """Where a follow may have happened after the unfollow, nothing is proven."""
    tweet = tweet_at(0)
    rows = [row("post", ANNA, 0, tweet_id=tweet), row("unfollow", BOB, 1, target=ANNA),
            page("home", BOB, 9, [(tweet, ANNA)])]
    refollow = row("follow", BOB, 3, outcome="info", target=ANNA)

    assert len(check("no_ghost_after_delete_or_unfollow", case(*rows)).violations) == 1
    assert check("no_ghost_after_delete_or_unfollow", case(*rows, refollow)).violations == ()


def test_an_acknowledged_tweet_must_be_in_both_tables_and_in_the_answer():
    """Missing from one place is enough; the violation names the place and the post."""
    tweet = tweet_at(0)
    finals = bundle.Finals(looked_up=frozenset({tweet}), by_id={tweet: bundle.Stored(ANNA, False)}, by_author={ANNA: {}},
                             api_tweets={tweet: True})
    finding = check("no_acknowledged_tweet_lost", case(row("post", ANNA, 0, tweet_id=tweet), finals=finals))

    assert finding.verdict == "fail"
    assert "absent from Cassandra by author; op 0 post by 1" in finding.violations[0]


def test_a_post_without_an_answer_explains_one_tweet_and_no_second():
    """One tweet is recovered; a second one from the same `info` is a phantom."""
    first, second = tweet_at(1), tweet_at(2)
    lost_answer = row("post", ANNA, 0, outcome="info", key="k")
    acked = row("post", BOB, 0, tweet_id=tweet_at(0))
    stored = {tweet_at(0): bundle.Stored(BOB, False)}
    once = bundle.Finals(looked_up=frozenset(stored), by_id=stored, by_author={ANNA: {first: False}})
    twice = bundle.Finals(looked_up=frozenset(stored), by_id=stored, by_author={ANNA: {first: False, second: False}})

    assert check("no_acknowledged_tweet_lost", case(lost_answer, acked, finals=once)).verdict == "pass"
    assert "phantoms" in check("no_acknowledged_tweet_lost", case(lost_answer, acked, finals=twice)).violations[0]


def test_a_tweet_below_a_page_is_not_missed():
    """A page is judged only on the range that it covers."""
    old, new = tweet_at(0), tweet_at(3)
    posts = [row("post", ANNA, 0, tweet_id=old), row("post", ANNA, 3, tweet_id=new)]
    short = page("user_tweets", ANNA, 5, [(new, ANNA)], target=ANNA, cursor_out="more", scanned_low=new)
    complete = page("user_tweets", ANNA, 5, [(new, ANNA)], target=ANNA)

    assert check("read_your_writes", case(*posts, short)).verdict == "pass"
    assert check("read_your_writes", case(*posts, complete)).verdict == "fail"


def test_a_follower_must_see_a_tweet_only_after_the_bound():
    """Ten seconds after the acknowledgement a home page that covers the tweet shows it."""
    post = row("post", ANNA, 0, tweet_id=tweet_at(0))

    assert check("every_follower_sees_it", case(post, page("home", BOB, 9, []))).violations == ()
    assert len(check("every_follower_sees_it", case(post, page("home", BOB, 12, []))).violations) == 1


def test_the_bound_starts_again_at_the_end_of_a_fault():
    """A fault during the delivery extends the bound; one that recovered before does not."""
    post, late = row("post", ANNA, 0, tweet_id=tweet_at(0)), page("home", BOB, 15, [])
    during = fault_records.FaultRecord("kill", "fanout-1", 101 * S, 101 * S, 101 * S, 101 * S, 108 * S)
    before = fault_records.FaultRecord("kill", "fanout-1", 90 * S, 90 * S, 90 * S, 90 * S, 95 * S)

    assert check("every_follower_sees_it", case(post, late, faults=[during])).violations == ()
    assert len(check("every_follower_sees_it", case(post, late, faults=[before])).violations) == 1


def test_a_follow_in_flight_is_optional():
    """A follow acknowledged before the post must show the tweet; one in flight during the post may."""
    post, empty = row("post", BOB, 2, tweet_id=tweet_at(2)), page("home", ANNA, 20, [])
    in_flight, before = row("follow", ANNA, 1.8, target=BOB), row("follow", ANNA, 1, target=BOB)

    assert check("every_follower_sees_it", case(in_flight, post, empty)).violations == ()
    assert len(check("every_follower_sees_it", case(before, post, empty)).violations) == 1


def test_a_follower_list_of_one_after_a_cache_loss_is_found():
    """The list claims to be complete, and PostgreSQL has two followers."""
    lists = (bundle.CachedList(Kind.FOLLOWERS, ANNA, 0, ((CHER, 0),)),)
    finals = bundle.Finals(lists=lists, followers={ANNA: frozenset({BOB, CHER})})
    finding = check("cached_lists_match_the_oracle", case(row("home", BOB, 0), finals=finals))

    assert finding.violations == ("list f:1 lacks 1 users against PostgreSQL, which has 2 (2)",)


def test_a_list_is_judged_down_to_its_floor():
    """Below its floor a list guarantees nothing."""
    tweet = tweet_at(0)
    stored = {"by_author": {ANNA: {tweet: False}, CHER: {}}, "following": {BOB: frozenset({ANNA, CHER})},
              "wall_ms": WALL_MS + 60_000}
    below = bundle.Finals(lists=(bundle.CachedList(Kind.HOME, BOB, tweet + 1, ()),), **stored)
    at = bundle.Finals(lists=(bundle.CachedList(Kind.HOME, BOB, tweet, ()),), **stored)

    assert check("cached_lists_match_the_oracle", case(row("home", BOB, 0), finals=below)).verdict == "pass"
    assert check("cached_lists_match_the_oracle", case(row("home", BOB, 0), finals=at)).verdict == "fail"


def test_attempts_with_one_key_are_one_post():
    """A retry that gets the same id is correct; one with another id or body is not."""
    first = row("post", ANNA, 0, outcome="info", key="k", body_sha="b")
    again = row("post", ANNA, 1, key="k", body_sha="b", tweet_id=tweet_at(0), attempt=1)
    other = row("post", ANNA, 2, key="k", body_sha="b", tweet_id=tweet_at(2), attempt=2)

    assert check("idempotency_keys_are_honoured", case(first, again)).verdict == "pass"
    assert "made tweets" in check("idempotency_keys_are_honoured", case(first, again, other)).violations[0]


def test_a_row_that_was_never_sent_is_no_operation():
    """Connection refused: `sent_ns` is 0."""
    never = row("post", ANNA, 0, outcome="fail") | {"sent_ns": 0}
    evidence = case(never, page("home", BOB, 3, []))

    assert evidence.history.start_ns == 103 * S
    assert evidence.history.posts == []


def test_a_fault_window_with_few_operations_is_unknown():
    """Fewer than 500 operations prove nothing about a fault."""
    fault = fault_records.FaultRecord("cache_loss", "redis-1", 100 * S, 100 * S, 100 * S, 100 * S, 101 * S)
    many = [*(page("home", BOB, n / 100, []) for n in range(450)),
            *(row("post", ANNA, n / 10, tweet_id=tweet_at(n)) for n in range(50))]

    assert check("fault_windows_were_exercised", case(*many, faults=[fault])).verdict == "pass"
    assert check("fault_windows_were_exercised", case(*many[1:], faults=[fault])).verdict == "unknown"


def test_a_history_without_its_columns_is_refused_by_name():
    """The error names the missing columns."""
    with pytest.raises(ValueError, match=r"lacks the columns \['outcome', 'route'\]"):
        history.History(pd.DataFrame({"user": [1], "sent_ns": [1], "done_ns": [1]}))
