"""The tables of client methods are complete: a new version of a client with a new method fails here."""

from __future__ import annotations

import inspect
import shutil

import pytest
import tweepy

from bench.clients import methods, try_methods
from bench.clients.methods import NOT_TRIED, REFUSED, SERVED, Method
from bench.clients.try_methods import Result


def test_every_method_of_tweepys_client_is_in_the_table_and_no_other():
    """A method that nobody listed is neither served nor refused as far as a reader knows."""
    public = {name for name, value in inspect.getmembers(tweepy.Client, callable) if not name.startswith("_")}

    assert public == set(methods.TWEEPY)


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
def test_every_method_of_twitter_api_v2_is_in_the_tables_and_no_other():
    """By reflection over its clients, in Node."""
    names = try_methods.try_npm(None).names

    assert set(names["v2"]) == set(methods.NPM_V2)
    assert set(names["client"]) == set(methods.NPM_CLIENT)
    assert len(names["v1"]) > 50


@pytest.mark.parametrize("table", [methods.TWEEPY, methods.NPM_V2, methods.NPM_CLIENT])
def test_a_method_that_is_not_tried_says_why(table):
    """Only streaming, OAuth 1.0a and helpers are not tried."""
    assert [name for name, method in table.items() if method.outcome == NOT_TRIED and not method.why] == []
    assert {method.outcome for method in table.values()} <= {SERVED, REFUSED, NOT_TRIED}


@pytest.mark.parametrize(("result", "outcome"), [
    (Result(200), SERVED), (Result(404, "No route GET /2/lists/1; see the docs."), REFUSED),
    (Result(400, ""), "neither"), (Result(404, "Not Found"), "neither"), (Result(503, "The store is away."), "neither"),
    (Result(0, "TypeError: no data"), "neither"),
])
def test_a_refusal_needs_a_sentence(result, outcome):
    """A bare status does not tell a client's user what to do."""
    assert result.outcome.startswith(outcome)


def test_an_outcome_that_differs_from_the_table_is_counted():
    """Served instead of refused is a defect of the page, refused instead of served one of the lab."""
    table = {"a": Method(SERVED), "b": Method(REFUSED), "c": Method(NOT_TRIED, why="streaming"), "d": Method(SERVED)}
    results = {"a": Result(200), "b": Result(200), "d": Result(500, "A bug.")}

    assert try_methods.different(table, results) == {"b": SERVED, "d": "neither: 500 A bug."}
