"""Sealed cursors: without the key nothing can be read from one, and none can be made."""

import pytest

from system.services.shared.sealed_cursors import Seal

SEAL = Seal("a key", "walruses")


def test_a_token_is_opened_by_every_process_with_the_key_and_is_the_same_from_each():
    """A page has one token: clients compare pages."""
    token = SEAL.close("70.80.90", "7")

    assert Seal("a key", "walruses").open(token, "7") == "70.80.90"
    assert Seal("a key", "walruses").close("70.80.90", "7") == token
    assert "70" not in token and token.isascii()


@pytest.mark.parametrize("seal", [SEAL, Seal("another key", "walruses"), Seal("a key", "herrings"), Seal("", "walruses")])
def test_a_token_of_another_list_key_or_purpose_is_none(seal):
    """A token is bound to its list, key and purpose."""
    assert seal.open(SEAL.close("70", "7"), "8") is None
    assert seal is SEAL or seal.open(SEAL.close("70", "7"), "7") is None


TOKEN = SEAL.close("70", "7")


@pytest.mark.parametrize("token", ["", "7", "70.80", "é", "AAAA", "A" * 5_000, TOKEN[:-4], TOKEN[4:]])
def test_text_that_was_never_sealed_is_none(token):
    """A bare id, a truncated token, characters that no token has."""
    assert SEAL.open(token, "7") is None
