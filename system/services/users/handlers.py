"""Sign-up, tokens and profiles over the user directory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import argon2

from system.kernel.errors import Conflict, NotFound, Overloaded
from system.ports import User, UserDirectory
from system.services.users import policy

# A light profile for the lab: about 10 ms and 8 MiB a hash. argon2's own default takes 0.2 s of CPU: five logins a second
# would eat a core of the machine that is measured.
HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1)
Result = TypeVar("Result")

MAX_HASHES = 16  # hashes that run or wait; beyond it 503: passwords are the dearest thing an outsider can ask for


class Passwords:
    """Hashes and checks passwords in threads, a few at a time."""

    def __init__(self) -> None:
        self._waiting = 0
        self._one = asyncio.Semaphore(2)
        self._nobody = HASHER.hash("a password that nobody has")

    async def hash(self, password: str) -> str:
        """Return the argon2 hash. Raises Overloaded (definite) where too many wait."""
        return await self._run(lambda: HASHER.hash(password))

    async def holds(self, password: str, hashed: str) -> bool:
        """Does the password belong to the hash? An empty hash takes as long as a wrong password, so names cannot be probed."""
        return await self._run(lambda: _verify(hashed or self._nobody, password) and bool(hashed))

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= MAX_HASHES:
            raise Overloaded(f"{self._waiting} passwords are being checked; retry in a second.", retry_after_s=1.0)
        self._waiting += 1
        try:
            async with self._one:
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

    async def sign_up(self, wish: policy.SignUp, key: str) -> User:
        """Create a user, once per key. Raises Conflict: a taken name, or a key of another name or password."""
        hashed = await self._passwords.hash(wish.password)
        made = await self._users.create(wish.username, wish.name, hashed, key)
        if key:
            # A repeat keeps the first password: one that was never set must not be acknowledged.
            stands = await self._users.by_name(made.username)
            kept = stands.password_hash if stands else ""
            if kept != hashed and not await self._passwords.holds(wish.password, kept):
                problem = Conflict(f"The idempotency key {key!r} was used for another sign-up; use another key for a new one.")
                problem.status = 422
                raise problem
        return made

    async def by_id(self, user_id: int) -> User:
        """Return a profile. Raises NotFound."""
        found = (await self._users.by_id([user_id])).get(user_id)
        if found is None:
            raise NotFound(f"Could not find user with id: [{user_id}].")
        return found

    async def connections(self, viewer_id: int, user_id: int) -> list[str]:
        """Return what stands between the two, in Twitter's words for `connection_status`, in order of the alphabet."""
        there, back = await asyncio.gather(self._users.edge(viewer_id, user_id), self._users.edge(user_id, viewer_id))
        return policy.connections(there.following, there.pending, back.following, back.pending)

    async def by_ids(self, user_ids: list[int]) -> dict[int, User]:
        """Return the profiles that exist."""
        return await self._users.by_id(user_ids)

    async def by_name(self, username: str) -> User:
        """Return a profile. Raises WrongInput on an impossible name, NotFound."""
        found = await self._users.by_name(policy.check_username(username))
        if found is None:
            raise NotFound(f"Could not find user with username: [{username}].")
        return found
