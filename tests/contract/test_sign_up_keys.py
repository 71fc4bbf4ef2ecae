"""Idempotency keys of sign-ups: with the in-memory user directory, and with the one on PostgreSQL."""

# ruff: noqa: F401, F811 (fixtures come in by their names)

import pytest

from system.kernel.errors import Conflict
from system.services.users.handlers import Passwords, UserService
from system.services.users.policy import SignUp
from tests.helpers.durable_stores import durable_settings, real_users, users


async def test_a_key_that_comes_with_another_password_is_refused(users):
    """Otherwise the second password would be acknowledged and never work. A true repeat returns the user."""
    passwords = Passwords()
    service = UserService(users, passwords)
    first = await service.sign_up(SignUp("grace_h", "Grace", "a long password"), "key-1")

    assert (await service.sign_up(SignUp("grace_h", "Grace", "a long password"), "key-1")).id == first.id
    with pytest.raises(Conflict, match="another sign-up") as refused:
        await service.sign_up(SignUp("grace_h", "Grace", "another password"), "key-1")

    assert refused.value.status == 422
    assert await passwords.matches("a long password", (await users.by_name("grace_h")).password_hash)


async def test_a_key_of_another_users_sign_up_does_not_reveal_their_name(users):
    """A sign-up key has no owner yet: the refusal names only what the caller sent."""
    service = UserService(users, Passwords())
    await service.sign_up(SignUp("grace_h", "Grace", "a long password"), "key-1")

    with pytest.raises(Conflict) as refused:
        await service.sign_up(SignUp("ada_l", "Ada", "a long password"), "key-1")

    assert "grace" not in str(refused.value) and "ada_l" in str(refused.value)
