"""TweetCache: what changed of users, told to every process."""

from __future__ import annotations


async def start(hot) -> int:
    """Return the mark of now, as a process does at its first look."""
    mark, _ = await hot.changes(-1)
    return mark


async def test_an_announced_user_is_told_once(hot) -> None:
    """After the mark he is told; after the next mark nothing is new."""
    mark = await start(hot)
    await hot.announce([42, 43])

    mark, changed = await hot.changes(mark)
    assert changed == {42, 43}
    assert (await hot.changes(mark))[1] == frozenset()


async def test_a_user_who_changes_again_is_told_again(hot) -> None:
    """Twice the same user, with a look in between."""
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


async def test_who_looks_first_hears_no_old_news(hot) -> None:
    """A fresh process keeps nothing that could be old."""
    await hot.announce([42])

    mark, changed = await hot.changes(-1)

    assert changed == frozenset() and (await hot.changes(mark))[1] == frozenset()
