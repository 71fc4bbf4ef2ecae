"""TweetCache: changes of users, announced to every process."""

from __future__ import annotations


async def start(hot) -> int:
    """Return the current mark, as a process does on its first poll."""
    mark, _ = await hot.changes(-1)
    return mark


async def test_an_announced_user_is_reported_once(hot) -> None:
    """The user is reported after the mark; after the next mark there are no changes."""
    mark = await start(hot)
    await hot.announce([42, 43])

    mark, changed = await hot.changes(mark)
    assert changed == {42, 43}
    assert (await hot.changes(mark))[1] == frozenset()


async def test_a_user_that_changes_again_is_reported_again(hot) -> None:
    """The same user twice, with a poll in between."""
    mark = await start(hot)
    await hot.announce([42])
    mark, _ = await hot.changes(mark)

    await hot.announce([42])

    assert (await hot.changes(mark))[1] == {42}


async def test_an_announcement_of_nobody_says_that_anything_may_have_changed(hot) -> None:
    """As after a reset of the stores."""
    mark = await start(hot)
    await hot.announce([7])
    await hot.announce([])

    assert (await hot.changes(mark))[1] is None


async def test_the_first_poll_reports_no_earlier_changes(hot) -> None:
    """A new process has an empty local cache, so nothing in it can be stale."""
    await hot.announce([42])

    mark, changed = await hot.changes(-1)

    assert changed == frozenset() and (await hot.changes(mark))[1] == frozenset()
