"""How pages are merged, and how much a rebuild reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from system.kernel.errors import WrongInput
from system.services.shared import paging
from system.services.timelines import policy
from system.services.timelines.policy import Merged, Source

ANN, BOB = 1, 2


def test_a_merge_is_newest_first_and_holds_each_id_once():
    """Lists of pulled authors and pushed copies may hold the same tweet."""
    merged = policy.merge([Source(((9, ANN), (5, BOB)), 0), Source(((9, ANN), (7, ANN)), 0)], 10)

    assert merged == Merged(((9, ANN), (7, ANN), (5, BOB)), 0, True)


def test_a_merge_shows_nothing_below_the_highest_low_mark():
    """Ann was read down to 6 only; below that, her unread tweets could belong between Bob's."""
    merged = policy.merge([Source(((9, ANN), (6, ANN)), 6), Source(((8, BOB), (5, BOB)), 0)], 10)

    assert merged == Merged(((9, ANN), (8, BOB), (6, ANN)), 6, False)


def test_a_full_page_ends_at_its_last_entry():
    """The cursor is the last id scanned."""
    merged = policy.merge([Source(((9, ANN), (8, ANN), (7, ANN)), 0)], 2)

    assert merged == Merged(((9, ANN), (8, ANN)), 8, False)


def test_a_page_that_is_full_with_the_last_entry_is_known_to_be_the_end():
    """Nothing was cut and every source is exhausted."""
    assert policy.merge([Source(((9, ANN), (8, ANN)), 0)], 2).exhausted


@given(st.lists(st.sets(st.integers(1, 60), max_size=12), min_size=1, max_size=5), st.integers(1, 9), st.integers(1, 9))
def test_merged_pages_return_every_id_once(authors, read, limit):
    """Whatever each author has, and however little is read of each at a time.

    Disjoint, ordered, without gaps.
    """
    tweets = {author: sorted(ids, reverse=True) for author, ids in enumerate(authors)}
    shown: list[int] = []
    before, ended = 1_000, False
    while not ended:
        sources = []
        for author, ids in tweets.items():
            part = [(each, author) for each in ids if each < before][:read]
            sources.append(policy.source_of(part, read))
        merged = policy.merge(sources, limit)
        shown += [entry[0] for entry in merged.entries]
        before, ended = merged.low, merged.exhausted

    assert shown == sorted(set().union(*authors), reverse=True)


@pytest.mark.parametrize(("followings", "cap", "per_author"), [
    (1, 800, 800), (7, 800, 400), (39, 800, 80), (500, 800, 40), (3, 30, 30),
])
def test_a_rebuild_reads_less_of_each_author_the_more_there_are(followings, cap, per_author):
    """Four times the cap in total, never below 40 ids per author, never above the cap."""
    plan = policy.plan_rebuild(999, range(followings), cap)

    assert (plan.per_author, len(plan.authors)) == (per_author, followings + 1)


def test_the_readers_own_tweets_belong_to_their_timeline():
    """Once, even if the reader is among the followed users."""
    assert policy.plan_rebuild(7, [3, 7], 800).authors == (3, 7)


@pytest.mark.parametrize(("before", "floor", "start"), [(None, 50, 50), (90, 50, 50), (40, 50, 40)])
def test_cassandra_continues_where_the_cached_list_ends(before, floor, start):
    """Below the floor, or below the cursor if that is already lower."""
    assert policy.tail_before(before, floor) == start


@pytest.mark.parametrize(("scanned", "ended", "since", "token"), [
    (70, False, None, "70"), (70, True, None, None), (0, False, None, None), (70, False, 60, "70"), (61, False, 60, None),
])
def test_a_cursor_is_returned_while_something_older_may_follow(scanned, ended, since, token):
    """None at the end, at the bottom and at `since_id`."""
    assert paging.next_token(scanned, ended, since) == token


@pytest.mark.parametrize(("params", "window"), [
    ({}, (100, None, None)),
    ({"max_results": "5", "pagination_token": "70", "until_id": "60", "since_id": "10"}, (5, 60, 10)),
])
def test_a_window_has_the_tightest_of_the_requested_bounds(params, window):
    """A cursor and an until_id both bound from above."""
    actual = paging.window(params, 100)

    assert (actual.limit, actual.before, actual.since_id) == window


@pytest.mark.parametrize("params", [{"max_results": "0"}, {"max_results": "101"}, {"max_results": "ten"}, {"max_results": "٣"},
                                    {"pagination_token": "abc"}, {"until_id": "-1"}, {"since_id": "9" * 20}])
def test_a_window_out_of_bounds_is_refused_naming_parameter_and_value(params):
    """400, not a page of something else."""
    (name,), (value,) = params, params.values()
    with pytest.raises(WrongInput, match=name) as refusal:
        paging.window(params, 100)

    assert value in str(refusal.value)


@pytest.mark.parametrize(("running", "waiting", "admitted"), [(0, 0, True), (15, 0, True), (16, 63, True), (16, 64, False)])
def test_rebuilds_are_bounded(running, waiting, admitted):
    """16 run, 64 wait, the next is refused."""
    assert policy.admits(running, waiting, 16, 64) is admitted


@pytest.mark.parametrize(("running", "waiting", "took_s", "wait_s"), [(15, 9, 1.0, 0.0), (16, 0, 1.6, 0.1), (16, 63, 1.0, 4.0)])
def test_a_queued_rebuild_waits_for_those_before_it(running, waiting, took_s, wait_s):
    """16 slots: the queue moves 16 / took_s times a second."""
    assert policy.expected_wait_s(running, waiting, 16, took_s) == pytest.approx(wait_s)


@pytest.mark.parametrize(("wait_s", "took_s", "left_s", "served"), [
    (4.0, 0.5, 5.0, True), (4.0, 1.5, 5.0, False), (0.0, 60.0, 0.1, True), (0.1, 60.0, float("inf"), True),
])
def test_a_rebuild_that_would_end_too_late_is_not_queued(wait_s, took_s, left_s, served):
    """But a free slot is always used: else a slow hour would keep every list from being rebuilt."""
    assert policy.in_time(wait_s, took_s, left_s) is served


def test_the_duration_of_rebuilds_is_a_running_mean():
    """The first one counts fully, then a fifth each."""
    assert policy.mean_s(0.0, 2.0) == 2.0
    assert policy.mean_s(2.0, 1.0) == pytest.approx(1.8)
