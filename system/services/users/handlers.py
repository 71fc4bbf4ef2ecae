"""Sign-up, tokens and profiles over the user directory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import argon2

from system.kernel.errors import Conflict, NotFound, Overloaded
from system.ports import User, UserDirectory
from system.services.users import policy

# A light profile for the lab: about 10 ms and 8 MiB per hash. argon2's default takes 0.2 s of CPU: five
# logins a second would use up a core of the machine under measurement.
HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1)
Result = TypeVar("Result")

MAX_HASHES = 16  # hashes that run or wait, then 503: nothing an anonymous client can cause costs more


class Passwords:
    """Hashes and checks passwords in threads, a few at a time."""

    def __init__(self) -> None:
        self._waiting = 0
        self._slots = asyncio.Semaphore(2)
        self._no_user_hash = HASHER.hash("a password that no user has")

    async def hash(self, password: str) -> str:
        """Return the argon2 hash. Raises Overloaded (definite) if too many wait."""
        return await self._run(lambda: HASHER.hash(password))

    async def matches(self, password: str, hashed: str) -> bool:
        """Return whether the password matches the hash.

        An empty hash takes as long as a wrong password, so usernames cannot be probed.
        """
        return await self._run(lambda: _verify(hashed or self._no_user_hash, password) and bool(hashed))

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= MAX_HASHES:
            raise Overloaded(f"{self._waiting} passwords are being checked; retry in a second.", retry_after_s=1.0)
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def _verify(hashed: str, password: str) -> bool:
    try:
        return HASHER.verify(hashed, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


class UserService:
    """Users over the port."""

    def __init__(self, users: UserDirectory, passwords: Passwords) -> None:
        self._users, self._passwords = users, passwords

    async def sign_up(self, request: policy.SignUp, key: str) -> User:
        """Create a user, once per key.

        Raises Conflict on a taken name, or a key used with another name or password.
        """
        hashed = await self._passwords.hash(request.password)
        created = await self._users.create(request.username, request.name, hashed, key)
        if key:
            # A repeat keeps the first password: a password that was never set must not be acknowledged.
            user = await self._users.by_name(created.username)
            stored = user.password_hash if user else ""
            if stored != hashed and not await self._passwords.matches(request.password, stored):
                problem = Conflict(f"The idempotency key {key!r} was used for another sign-up; use another key for a new one.")
                problem.status = 422
                raise problem
        return created

    async def by_id(self, user_id: int) -> User:
        """Return a profile. Raises NotFound."""
        user = (await self._users.by_id([user_id])).get(user_id)
        if user is None:
            raise NotFound(f"Could not find user with id: [{user_id}].")
        return user

    async def connections(self, viewer_id: int, user_id: int) -> list[str]:
        """Return the relations between the two users, as `connection_status` words, in alphabetical order."""
        edge, reverse = await asyncio.gather(self._users.edge(viewer_id, user_id), self._users.edge(user_id, viewer_id))
        return policy.connections(edge.following, edge.pending, reverse.following, reverse.pending)

    async def by_ids(self, user_ids: list[int]) -> dict[int, User]:
        """Return the profiles that exist."""
        return await self._users.by_id(user_ids)

    async def by_names(self, usernames: list[str]) -> dict[str, User]:
        """Return lower-case name -> profile of the users that exist."""
        users = await asyncio.gather(*map(self._users.by_name, usernames))
        return {user.username.lower(): user for user in users if user is not None}

    async def by_name(self, username: str) -> User:
        """Return a profile. Raises WrongInput on an invalid name, NotFound."""
        user = await self._users.by_name(policy.check_username(username))
        if user is None:
            raise NotFound(f"Could not find user with username: [{username}].")
        return user
