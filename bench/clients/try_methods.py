"""Tries the methods of `methods` on a lab: tweepy in this process, twitter-api-v2 in Node. Both unpatched.

Neither client can be given another host. tweepy's session gets an adapter that sends requests for Twitter's host
to the gateway; twitter-api-v2 gets an agent, its option for proxies, that connects to the gateway.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import tweepy  # type: ignore[import-untyped]
from PIL import Image
from requests.adapters import HTTPAdapter

from bench.clients import methods, world
from bench.clients.methods import NOT_TRIED, REFUSED, SERVED, Method
from bench.clients.world import World
from system.kernel.errors import CouldNotRun

TWITTER = "https://api.twitter.com"
NPM_VERSION = "1.29.1"
SCRIPT = Path(__file__).with_name("twitter_api_v2.cjs")
INSTALL_S, RUN_S = 120, 120


@dataclass(frozen=True)
class Result:
    """What a call ended with. `status`: 200 if it returned, 0 if it failed without a response. `detail`: the reason."""

    status: int
    detail: str = ""

    @property
    def outcome(self) -> str:
        """Served, refused, or why it is neither."""
        if self.status == 200:
            return SERVED
        if 400 <= self.status < 500 and self.detail.strip().endswith((".", "]")) and " " in self.detail:
            return REFUSED
        return f"neither: {self.status} {self.detail}"[:200]


class _Adapter(HTTPAdapter):
    def __init__(self, gateway: str) -> None:
        super().__init__()
        self._gateway = gateway

    def send(self, request: Any, *args: Any, **named: Any) -> requests.Response:
        request.url = request.url.replace(TWITTER, self._gateway, 1)
        return super().send(request, *args, **named)


def try_tweepy(lab: World) -> dict[str, Result]:
    """Call every method of the table; return method -> result."""
    client = tweepy.Client(bearer_token=lab.token, access_token=lab.token)
    client.session.mount(TWITTER, _Adapter(lab.gateway))
    results = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # older names of some methods
        for name, method in methods.TWEEPY.items():
            if method.outcome != NOT_TRIED:
                results[name] = _call(client, name, lab.fill(method.args), lab.fill(method.named))
    return results


def _call(client: tweepy.Client, name: str, args: Any, named: Any) -> Result:
    try:
        getattr(client, name)(*args, **named)
    except tweepy.HTTPException as refusal:
        return Result(refusal.response.status_code, " ".join(refusal.api_messages))
    except Exception as problem:  # whatever else the client does with the response is a finding too
        return Result(0, f"{type(problem).__name__}: {problem}")
    return Result(200)


def installed() -> Path:
    """Return the folder with twitter-api-v2, installed there by npm if it is missing. Raises CouldNotRun."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "tweetlab" / f"twitter-api-v2-{NPM_VERSION}"
    if (folder / "node_modules" / "twitter-api-v2").exists():
        return folder
    if not (shutil.which("node") and shutil.which("npm")):
        raise CouldNotRun("node and npm are not installed; twitter-api-v2 cannot be tried. To fix: apt-get install nodejs npm.")
    folder.mkdir(parents=True, exist_ok=True)
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), f"twitter-api-v2@{NPM_VERSION}"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode:
        raise CouldNotRun(f"npm could not install twitter-api-v2@{NPM_VERSION}: {done.stderr.strip()[-200:]}")
    return folder


@dataclass(frozen=True)
class NpmRun:
    """Result of a run of twitter-api-v2. `names`: client -> names of its methods. `results`: client -> method -> result."""

    names: Mapping[str, list[str]]
    results: Mapping[str, Mapping[str, Result]]


def try_npm(lab: World | None) -> NpmRun:
    """Call every method of the tables; without a lab, only list the methods. Raises CouldNotRun."""
    request: dict[str, Any] = {"calls": {}}
    if lab is not None:
        picture = io.BytesIO()
        Image.new("RGB", (4, 4)).save(picture, "PNG")
        calls = {"v2": methods.NPM_V2, "client": methods.NPM_CLIENT}
        encoded = base64.b64encode(picture.getvalue()).decode()
        filled = World(lab.gateway, lab.token, {**lab.names, "picture": f"base64:{encoded}"})
        request = {"gateway": lab.gateway.removeprefix("http://"), "token": lab.token, "calls": {
            client: [[name, filled.fill(method.args)] for name, method in table.items() if method.outcome != NOT_TRIED]
            for client, table in calls.items()}}
    env = os.environ | {"NODE_PATH": str(installed() / "node_modules")}
    done = subprocess.run(["node", str(SCRIPT)], input=json.dumps(request), capture_output=True, text=True, timeout=RUN_S,
                          env=env)
    if done.returncode:
        raise CouldNotRun(f"{SCRIPT.name} exited with {done.returncode}: {done.stderr.strip()[-400:]}")
    reply = json.loads(done.stdout)
    results = {client: {name: Result(*pair) for name, pair in each.items()} for client, each in reply["results"].items()}
    return NpmRun(reply["names"], results)


def different(table: Mapping[str, Method], results: Mapping[str, Result]) -> dict[str, str]:
    """Return method -> outcome of the methods that ended otherwise than the table says."""
    return {name: results[name].outcome for name, method in table.items()
            if method.outcome != NOT_TRIED and results[name].outcome != method.outcome}


def ignored(gateway: str) -> list[str]:
    """Return the methods of both clients that ended otherwise than their tables say."""
    tried = try_npm(world.make(gateway))
    found = {"tweepy": different(methods.TWEEPY, try_tweepy(world.make(gateway))),
             "v2": different(methods.NPM_V2, tried.results["v2"]),
             "client": different(methods.NPM_CLIENT, tried.results["client"])}
    v1 = {name: result.outcome for name, result in tried.results.get("v1", {}).items() if result.outcome != REFUSED}
    return [f"{client}.{name}: {outcome}" for client, each in {**found, "v1": v1}.items() for name, outcome in each.items()]
