"""The web client's files as the gateway serves them."""

from __future__ import annotations

import re

import pytest
from starlette.applications import Starlette

from system.kernel import settings
from system.services.gateway.web import pages
from tests.unit.test_tweetlab_console import ask

ORIGINS = ("http://127.9.50.1:9000", "http://127.9.8.1:8080")


@pytest.fixture
def client():
    """An application with only the client's routes."""
    return Starlette(routes=list(pages.routes(ORIGINS)))


async def test_the_page_is_served_at_the_root_and_references_existing_files(client):
    """Every file that the page or a script references is served with its own type."""
    _, rules_headers, rules = await ask(client, "GET", "/web/text-rules.json", "lab")
    assert rules_headers["content-type"] == "application/json" and b'"domains"' in rules
    status, headers, body = await ask(client, "GET", "/", "lab")
    named = set(re.findall(rb'(?:src|href)="(/web/[^"]+)"', body))
    for name in list(named):
        _, _, script = await ask(client, "GET", name.decode(), "lab")
        named |= {b"/web/" + each for each in re.findall(rb'from "\./([a-z]+\.js)"', script)}

    answers = {name: (await ask(client, "GET", name.decode(), "lab"))[0] for name in named}
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert len(named) >= 6 and set(answers.values()) == {200}


async def test_the_policy_allows_only_the_own_origin_and_the_media_origins(client):
    """No inline script, no other origin, no framing, no text turned into HTML."""
    _, headers, _ = await ask(client, "GET", "/", "lab")
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))

    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self' http://127.9.50.1:9000 http://127.9.8.1:8080"
    assert policy["frame-ancestors"] == "'none'" and policy["require-trusted-types-for"] == "'script'"


async def test_a_file_that_did_not_change_is_not_sent_again(client):
    """ETag of the bytes; a request with it gets 304 without a body."""
    _, headers, body = await ask(client, "GET", "/web/app.js", "lab")

    assert re.fullmatch(r'"[0-9a-f]{32}"', headers["etag"]) and body
    status, _, again = await ask(client, "GET", "/web/app.js", "lab", **{"if-none-match": f"W/{headers['etag']}"})
    assert (status, again) == (304, b"")


def test_media_come_from_storage_and_from_the_edge():
    """The origins of signed URLs are those of the lab's range."""
    config = settings.from_env({"TWEETLAB_RANGE": "9"})

    assert pages.media_origins(config) == ["http://127.9.50.1:9000", "http://127.9.8.1:8080"]


def test_no_script_turns_text_into_html_or_executes_text():
    """Text becomes text nodes; no file uses an API that bypasses this."""
    code = b"".join(file.body for path, file in pages.files().items() if path.endswith(".js"))

    assert not re.search(rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|localStorage", code)
