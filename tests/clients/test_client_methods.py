"""Every method of tweepy's Client and of twitter-api-v2, unpatched, on the lab: served, or refused with a sentence."""

from __future__ import annotations

import shutil

import pytest

from bench.clients import methods, try_methods, world
from bench.clients.methods import REFUSED
from tests.helpers.people import GATEWAY

pytestmark = pytest.mark.real


def test_every_method_of_tweepy_ends_as_its_table_says(gateway_url: str) -> None:
    """With all the fields, expansions and times that the client can send."""
    assert try_methods.different(methods.TWEEPY, try_methods.try_tweepy(world.make(GATEWAY))) == {}


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
def test_every_method_of_twitter_api_v2_ends_as_its_table_says(gateway_url: str) -> None:
    """The v1.1 client is refused throughout."""
    tried = try_methods.try_npm(world.make(GATEWAY))

    assert try_methods.different(methods.NPM_V2, tried.results["v2"]) == {}
    assert try_methods.different(methods.NPM_CLIENT, tried.results["client"]) == {}
    assert {result.outcome for result in tried.results["v1"].values()} == {REFUSED}
