"""Rotation of the signing key under load: no request fails, and the second rotation invalidates the first key.

A minimal lab with the real gateway and users service: HAProxy, PostgreSQL, both Redis, one of each as in `small`.
"""

import asyncio
import contextlib
import json
import stat
import time

import aiohttp
import pytest

from system import bootstrap
from system.kernel import policies, scopes, settings
from system.kernel.errors import CouldNotRun
from system.platform import blueprint, native
from system.platform.blueprint import Blueprint
from system.platform.install import packages
from system.services.shared import signing
from tests.helpers.requirements import requires
from tweetlab.commands import keys as command
from tweetlab.lab import keys, session

pytestmark = [
    pytest.mark.real, pytest.mark.slow,
    requires(packages.HAPROXY, packages.POSTGRES),
]
RANGE = 214
SMALL = blueprint.load("small")
KINDS = ("postgres", "redis", "limits", "haproxy", "gateway", "users")
QUICK = Blueprint("quick", tuple(node for kind in KINDS for node in SMALL.of_kind(kind)))
LIMITS = policies.Policies(limits=policies.LimitKnobs(read=10**6, user=10**6, token=10**6, login=10**6))
PASSWORD = "a password of ann"


@pytest.fixture
async def lab(tmp_path):
    """A minimal lab that is up, with the keys that `tweetlab up` creates; purged afterwards."""
    started = native.Lab(tmp_path, RANGE)
    await start(started)
    yield started
    await started.down(purge=True)


async def start(lab):
    stores = json.dumps(lab.stores())
    env = {"TWEETLAB_JWT_SECRET": session.secret_of(lab), "TWEETLAB_JWT_SECRET_PREVIOUS": session.previous_secret_of(lab),
           "TWEETLAB_POLICIES": LIMITS.to_json(), "TWEETLAB_STORES": stores}

    async def prepare(_):
        parsed = settings.from_env({"TWEETLAB_RANGE": str(RANGE), "TWEETLAB_STORES": stores})
        opened = await bootstrap.open_ports(parsed, ("users", "tokens"))
        for adapter in opened.adapters:
            await adapter.prepare()
        await opened.close()

    await lab.up(QUICK, env, prepare=prepare)


def signed(secret, user_id):
    now_s = int(time.time())
    return signing.sign({"sub": str(user_id), "iat": now_s, "exp": now_s + 600, "scope": scopes.ALL, "jti": "t1.1"}, secret)


class PublicApi:
    """A client of the public API. `bad`: responses other than 200; `kids`: key ids of the issued tokens."""

    def __init__(self, lab, web):
        self.base, self.web, self.bad, self.reads, self.kids = session.public_url(lab), web, [], 0, []

    async def sign_up(self):
        wish = {"username": f"ann{time.time_ns() % 10**9}", "password": PASSWORD}
        async with self.web.post(f"{self.base}/2/users", json=wish) as answer:
            return wish["username"], int((await answer.json())["data"]["id"])

    async def read(self, token):
        async with self.web.get(f"{self.base}/2/users/me", headers={"authorization": f"Bearer {token}"}) as answer:
            await answer.read()
            return answer.status

    async def sign_in(self, name):
        form = {"grant_type": "password", "username": name, "password": PASSWORD}
        async with self.web.post(f"{self.base}/2/oauth2/token", data=form) as answer:
            assert answer.status == 200, (answer.status, await answer.text())
            return (await answer.json())["access_token"]

    async def ends(self, token):
        async with self.web.post(f"{self.base}/2/oauth2/revoke", data={"token": token}) as answer:
            assert answer.status == 200

    async def reader(self, token, stop):
        while not stop.is_set():
            await self.one(self.read(token))
            await asyncio.sleep(0.005)

    async def newcomer(self, name, stop):
        """Sign in, and read with the new token immediately: every instance must know its key."""
        while not stop.is_set():
            with contextlib.suppress(AssertionError):
                await self.one(self.fresh_read(name))
            await asyncio.sleep(0.05)

    async def fresh_read(self, name):
        token = await self.sign_in(name)
        self.kids.append(json.loads(signing.jwt.utils.base64url_decode(token.split(".")[0]))["kid"])
        return await self.read(token)

    async def one(self, work):
        try:
            status = await work
            self.reads += 1
            if status != 200:
                self.bad.append(status)
        except (AssertionError, aiohttp.ClientError, TimeoutError) as problem:
            self.bad.append(repr(problem))


@contextlib.asynccontextmanager
async def crowd(api, name, token, readers=6):
    stop = asyncio.Event()
    tasks = [asyncio.create_task(api.reader(token, stop)) for _ in range(readers)]
    tasks.append(asyncio.create_task(api.newcomer(name, stop)))
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_keys_rotate_under_load_without_a_failed_request_and_the_second_rotation_retires_the_first(lab):
    """Old tokens stay valid, new ones are used immediately; restarted nodes and a restarted lab know both keys."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as web:
        api = PublicApi(lab, web)
        name, user_id = await api.sign_up()
        first = session.secret_of(lab)
        nodes = {row.name for row in await lab.status()}
        async with crowd(api, name, signed(first, user_id)):
            rotated = await keys.rotate(lab, lambda text: None)
        second = session.secret_of(lab)

        assert api.bad == [] and api.reads > 200
        assert set(api.kids) == {signing.kid_of(first), signing.kid_of(second)}
        assert api.kids == sorted(api.kids, key=lambda kid: kid == signing.kid_of(second))  # never back to the old one
        assert rotated == {"current": signing.kid_of(second), "previous": signing.kid_of(first), "retired": ""}
        assert {row.name for row in await lab.status()} == nodes
        assert [await api.read(signed(each, user_id)) for each in (first, second)] == [200, 200]
        for node in ("gateway-1", "users-1"):
            await lab.kill(node)
        await healthy(lab)
        assert [await api.read(signed(each, user_id)) for each in (first, second)] == [200, 200]

        async with crowd(api, name, signed(second, user_id)):
            rotated = await keys.rotate(lab, lambda text: None)
        third = session.secret_of(lab)

        assert api.bad == [] and rotated["retired"] == signing.kid_of(first)
        assert [await api.read(signed(each, user_id)) for each in (first, second, third)] == [401, 200, 200]
        await lab.down()
        await start(lab)
        assert [await api.read(signed(each, user_id)) for each in (first, second, third)] == [401, 200, 200]
        files = (lab.paths.state / name for name in (session.KEY, session.PREVIOUS_KEY))
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


async def healthy(lab):
    for _ in range(200):
        if all(row.health == "healthy" for row in await lab.status()):
            return
        await asyncio.sleep(0.1)
    pytest.fail("the lab was not well within 20 s")


async def test_an_aborted_rotation_is_completed_with_its_own_key(tmp_path, monkeypatch):
    """Wherever it aborted, the key that it started with becomes current, and the old one previous."""
    lab = native.Lab(tmp_path, RANGE)
    first = session.secret_of(lab)

    async def running():
        return [type("Row", (), {"role": "service", "kind": "gateway"})]

    for broken_at in (0, 1, 2):
        done = []

        async def renew(service, env, done=done, broken_at=broken_at):
            if len(done) == broken_at:
                raise CouldNotRun(f"{service} does not start.")
            done.append((service, env["TWEETLAB_JWT_SECRET"], env["TWEETLAB_JWT_SECRET_PREVIOUS"]))
            return [f"{service}-1"]

        monkeypatch.setattr(lab, "status", running)
        monkeypatch.setattr(lab, "rolling_restart", renew)
        with pytest.raises(CouldNotRun):
            await keys.rotate(lab, lambda text: None)
        started = (lab.paths.state / keys.NEXT).read_text()
        broken_at = 9
        monkeypatch.setattr(lab, "rolling_restart", lambda service, env, renew=renew: renew(service, env, broken_at=9))
        await keys.rotate(lab, lambda text: None)

        assert (session.secret_of(lab), session.previous_secret_of(lab)) == (started, first)
        assert done[-3:] == [("gateway", started, first), ("users", first, started), ("users", started, first)]
        assert not (lab.paths.state / keys.NEXT).exists()
        first = started


async def test_the_command_shows_names_and_ages_and_never_a_secret(tmp_path, monkeypatch, capsys):
    """A lab that is down rotates only its files; the previous key keeps its age."""
    monkeypatch.setattr(command.home, "ROOT", tmp_path)
    monkeypatch.setenv("TWEETLAB_RANGE", str(RANGE))
    lab = native.Lab(tmp_path, RANGE)
    first = session.secret_of(lab)

    await asyncio.to_thread(command.keys, "rotate", True)
    listing = json.loads(capsys.readouterr().out)
    await asyncio.to_thread(command.keys, "show", False)
    shown = capsys.readouterr().out

    assert [(key["role"], key["kid"]) for key in listing["keys"]] == [
        ("current", signing.kid_of(session.secret_of(lab))), ("previous", signing.kid_of(first))]
    assert listing["keys"][0]["age_s"] <= listing["keys"][1]["age_s"] < 60
    assert signing.kid_of(first) in shown
    assert not any(secret in shown + json.dumps(listing) for secret in (first, session.secret_of(lab)))
