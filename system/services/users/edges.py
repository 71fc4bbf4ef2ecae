"""Who follows whom, who asks to, and who is protected, over the user directory.

Follow requests: a follow of a protected user asks; it is no edge until he approves. Those who followed before he became
protected stay. Who becomes public again leaves requests as they are: they can still be answered, and a new follow of the
same user stands at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from system.kernel import checkpoints
from system.kernel.errors import Forbidden, NotFound, StoreUnavailable, WrongInput
from system.ports import Edge, TweetCache, User, UserDirectory
from system.services.shared.visibility import Visibility
from system.services.users import policy

Lister = Callable[[int, int, int], Awaitable[list[int]]]


class Edges:
    """Edges, requests and protection over the port. `settle_s`: how old a view of who is protected may be anywhere."""

    def __init__(self, users: UserDirectory, visibility: Visibility, settle_s: float,
                 sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, hot: TweetCache | None = None) -> None:
        self._hot = hot
        self._users, self._visibility, self._settle_s, self._sleep = users, visibility, settle_s, sleep

    async def follow(self, caller: int, follower_id: int, followee_id: int, trace: str, key: str = "") -> Edge:
        """Follow, or ask to. Safe to repeat. Raises Forbidden for another's edge, NotFound where the followee is unknown."""
        _own(caller, follower_id)
        if follower_id == followee_id:
            raise WrongInput(f"`target_user_id` is {followee_id}, the caller; nobody follows himself.")
        return await self._users.follow(follower_id, followee_id, trace, key)

    async def unfollow(self, caller: int, follower_id: int, followee_id: int, trace: str) -> Edge:
        """Unfollow, or take a request back. Safe to repeat. Errors as `follow`."""
        _own(caller, follower_id)
        if follower_id == followee_id:
            raise WrongInput(f"The path names {followee_id}, the caller; nobody unfollows himself.")
        return await self._users.unfollow(follower_id, followee_id, trace)

    async def approve(self, caller: int, user_id: int, requester_id: int, trace: str, key: str = "") -> Edge:
        """Let a requester follow. Safe to repeat. Raises Forbidden for another's requests, NotFound where none stands."""
        _answering(caller, user_id, requester_id)
        edge = await self._users.approve(requester_id, user_id, trace, key)
        if not edge.following:
            raise NotFound(f"User {requester_id} has not asked to follow user {user_id}.")
        return edge

    async def refuse(self, caller: int, user_id: int, requester_id: int, trace: str) -> Edge:
        """End a request. Safe to repeat; who follows already goes on (`remove` ends that). Raises Forbidden, NotFound."""
        _answering(caller, user_id, requester_id)
        return await self._users.refuse(requester_id, user_id, trace)

    async def remove(self, caller: int, user_id: int, follower_id: int, trace: str) -> Edge:
        """Take a follower away; he may ask or follow again. Safe to repeat. Raises Forbidden, NotFound."""
        _answering(caller, user_id, follower_id)
        return await self._users.unfollow(follower_id, user_id, trace)

    async def change_profile(self, caller: int, change: policy.Profile) -> User:
        """Change the caller's name or protection. Safe to repeat.

        Protection is acknowledged only when no process can have an older view of it: nothing leaks after the answer.
        """
        user = await self._users.set_profile(caller, change.name, change.protected)
        await checkpoints.reached("profile.after_commit", user=caller)
        if self._hot is not None:
            with contextlib.suppress(StoreUnavailable):  # kept profiles then live until their time is over
                await self._hot.announce([caller])
        if change.protected:
            await self._sleep(self._settle_s)
        return user

    async def requests(self, caller: int, user_id: int, after: int, limit: int) -> list[User]:
        """Return who asked to follow, ids above `after`, ascending. Raises Forbidden for another's requests."""
        _answering(caller, user_id)
        return await self._page(self._users.requests, user_id, after, limit)

    async def followers(self, caller: int, user_id: int, after: int, limit: int) -> list[User]:
        """Return followers with ids above `after`, ascending.

        Raises Forbidden where the caller may not see the user, NotFound where there is none.
        """
        return await self._seen(caller, user_id, await self._page(self._users.followers, user_id, after, limit))

    async def following(self, caller: int, user_id: int, after: int, limit: int) -> list[User]:
        """Return followed users with ids above `after`, ascending. Raises Forbidden likewise."""
        return await self._seen(caller, user_id, await self._page(self._users.following, user_id, after, limit))

    async def _seen(self, caller: int, user_id: int, found: list[User]) -> list[User]:
        if not found and not await self._users.by_id([user_id]):
            raise NotFound(f"Could not find user with id: [{user_id}].")
        await self._visibility.require(caller, user_id)  # after the read
        return found

    async def _page(self, read: Lister, user_id: int, after: int, limit: int) -> list[User]:
        user_ids = await read(user_id, after, limit)
        found = await self._users.by_id(user_ids) if user_ids else {}
        return [found[each] for each in user_ids if each in found]


def _own(caller: int, user_id: int) -> None:
    if caller != user_id:
        raise Forbidden(f"The token is of user {caller}; only user {user_id} may change whom he follows.")


def _answering(caller: int, user_id: int, other_id: int = -1) -> None:
    if caller != user_id:
        raise Forbidden(f"The token is of user {caller}; only user {user_id} may see and answer who wants to follow him.")
    if user_id == other_id:
        raise WrongInput(f"The path names {user_id} twice; nobody follows himself.")
