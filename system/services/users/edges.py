"""Follows, follow requests and protection, over the user directory.

Follow requests: following a protected user creates a request; it becomes an edge when that user approves.
Followers from before the protection stay. When a user becomes public again, open requests remain: they can
still be answered, and a new follow of that user takes effect immediately.
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
    """Edges, requests and protection over the port.

    `settle_s`: greatest age of the cached set of protected users in any process.
    """

    def __init__(self, users: UserDirectory, visibility: Visibility, settle_s: float,
                 sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, hot: TweetCache | None = None) -> None:
        self._hot = hot
        self._users, self._visibility, self._settle_s, self._sleep = users, visibility, settle_s, sleep

    async def follow(self, caller: int, follower_id: int, followee_id: int, trace: str, key: str = "") -> Edge:
        """Follow, or request to.

        Safe to repeat. Raises Forbidden for another user's edge, NotFound if the followee is unknown.
        """
        _require_self(caller, follower_id)
        if follower_id == followee_id:
            raise WrongInput(f"`target_user_id` is {followee_id}, the caller; users cannot follow themselves.")
        return await self._users.follow(follower_id, followee_id, trace, key)

    async def unfollow(self, caller: int, follower_id: int, followee_id: int, trace: str) -> Edge:
        """Unfollow, or withdraw a request. Safe to repeat. Raises as `follow`."""
        _require_self(caller, follower_id)
        if follower_id == followee_id:
            raise WrongInput(f"The path names {followee_id}, the caller; users cannot unfollow themselves.")
        return await self._users.unfollow(follower_id, followee_id, trace)

    async def approve(self, caller: int, user_id: int, requester_id: int, trace: str, key: str = "") -> Edge:
        """Approve a follow request.

        Safe to repeat. Raises Forbidden for another user's requests, NotFound if there is none.
        """
        _require_own_requests(caller, user_id, requester_id)
        edge = await self._users.approve(requester_id, user_id, trace, key)
        if not edge.following:
            raise NotFound(f"User {requester_id} has not requested to follow user {user_id}.")
        return edge

    async def refuse(self, caller: int, user_id: int, requester_id: int, trace: str) -> Edge:
        """Refuse a follow request.

        Safe to repeat; an existing follow stays (`remove` ends it). Raises Forbidden, NotFound.
        """
        _require_own_requests(caller, user_id, requester_id)
        return await self._users.refuse(requester_id, user_id, trace)

    async def remove(self, caller: int, user_id: int, follower_id: int, trace: str) -> Edge:
        """Remove a follower, who may request or follow again. Safe to repeat. Raises Forbidden, NotFound."""
        _require_own_requests(caller, user_id, follower_id)
        return await self._users.unfollow(follower_id, user_id, trace)

    async def change_profile(self, caller: int, change: policy.Profile) -> User:
        """Change the caller's name or protection. Safe to repeat.

        Protection is acknowledged only once no process can use an older set of protected users: nothing leaks
        after the response.
        """
        user = await self._users.set_profile(caller, change.name, change.protected)
        await checkpoints.reached("profile.after_commit", user=caller)
        if self._hot is not None:
            with contextlib.suppress(StoreUnavailable):  # cached profiles then live until their TTL
                await self._hot.announce([caller])
        if change.protected:
            await self._sleep(self._settle_s)
        return user

    async def requests(self, caller: int, user_id: int, after: int, limit: int) -> list[User]:
        """Return the users that requested to follow, ids above `after`, ascending.

        Raises Forbidden for another user's requests.
        """
        _require_own_requests(caller, user_id)
        return await self._page(self._users.requests, user_id, after, limit)

    async def followers(self, caller: int, user_id: int, after: int, limit: int) -> list[User]:
        """Return followers with ids above `after`, ascending.

        Raises Forbidden if the caller may not see the user, NotFound if there is no such user.
        """
        return await self._checked(caller, user_id, await self._page(self._users.followers, user_id, after, limit))

    async def following(self, caller: int, user_id: int, after: int, limit: int) -> list[User]:
        """Return followed users with ids above `after`, ascending. Raises Forbidden likewise."""
        return await self._checked(caller, user_id, await self._page(self._users.following, user_id, after, limit))

    async def _checked(self, caller: int, user_id: int, page: list[User]) -> list[User]:
        if not page and not await self._users.by_id([user_id]):
            raise NotFound(f"Could not find user with id: [{user_id}].")
        await self._visibility.require(caller, user_id)  # after the read
        return page

    async def _page(self, read: Lister, owner_id: int, after: int, limit: int) -> list[User]:
        user_ids = await read(owner_id, after, limit)
        users = await self._users.by_id(user_ids) if user_ids else {}
        return [users[user_id] for user_id in user_ids if user_id in users]


def _require_self(caller: int, user_id: int) -> None:
    if caller != user_id:
        raise Forbidden(f"The token is of user {caller}; only user {user_id} may change these follows.")


def _require_own_requests(caller: int, user_id: int, other_id: int = -1) -> None:
    if caller != user_id:
        raise Forbidden(f"The token is of user {caller}; only user {user_id} may see and answer these follow requests.")
    if user_id == other_id:
        raise WrongInput(f"The path names {user_id} twice; users cannot follow themselves.")
