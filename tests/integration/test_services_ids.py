"""Impossible ids, on every API route that takes one: a client error, never a store failure."""

import re

import pytest

from system.kernel.resilience import guard
from system.services.gateway import policy

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

CANNOT_BE = (str(2**70), str(2**63), "%00")
IN_BODIES = {  # route -> a body that contains an id
    "post": lambda wrong: {"text": "once", "reply": {"in_reply_to_tweet_id": wrong}},
    "follow": lambda wrong: {"target_user_id": wrong},
    "like": lambda wrong: {"tweet_id": wrong},
}


@pytest.mark.parametrize("wrong", CANNOT_BE, ids=lambda wrong: wrong[:22])
async def test_an_impossible_id_is_a_client_error_on_every_route(rig, wrong):
    """400 or 404 (403 on routes for the owner only), as for other invalid text; no store counts as failing."""
    (me,) = await rig.people("ada")
    for route in policy.ROUTES:
        for name in re.findall(r"{(\w+)}", route.path):
            path = re.sub(r"{\w+}", str(me), route.path.replace(f"{{{name}}}", wrong))
            status, body, _ = await rig.ask(route.method, path, me, **({"json": {}} if route.method in ("POST", "PUT") else {}))
            assert status in (400, 403, 404), (route.method, path[:80], status, body)
        if route.name in IN_BODIES:
            path = re.sub(r"{\w+}", str(me), route.path)
            status, body, _ = await rig.ask(route.method, path, me, json=IN_BODIES[route.name](wrong))
            assert status in (400, 403, 404), (route.method, path, status, body)
    wish = {"username": f"x{me}", "name": "no\0name", "password": "a long password"}
    status, body, _ = await rig.ask("POST", "/2/users", json=wish)
    assert status == 400, (status, body)
    for query in ("since_id", "until_id", "pagination_token", "max_results"):
        status, body, _ = await rig.ask("GET", f"/2/users/{me}/timelines/reverse_chronological?{query}={wrong}", me)
        assert status == 400, (query, status, body)

    assert max(guard._worst(store) for store in ("cassandra", "postgres", "redis", "elasticsearch")) == 0
