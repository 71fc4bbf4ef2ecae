"""Two regions and a witness as a whole: one is cut off with users in it, or lost.

Acknowledged writes survive.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from chaos import schedule
from chaos.faults.zone_faults import REGION
from scenarios import spec
from system.platform import blueprint, paths
from system.platform.regions import network
from tests.helpers.labs import lab_of_blueprint
from tests.helpers.requirements import needs_regions
from tweetlab import home

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.campaign,
    pytest.mark.timeout(480),
    needs_regions,
]
NAMES = {"east": 1, "west": 2}
MUST_HOLD = {"no_acknowledged_tweet_lost", "acknowledged_follows_stand", "idempotency_keys_are_honoured", "no_unauthorised_read",
             "unique_ids", "every_follower_sees_it"}
CLIENT = Path(__file__).resolve().parents[1] / "helpers" / "region_client.py"
HELD_S, INSIDE_S = 45.0, 75.0  # a delete takes 20 s until Cassandra gives up dead nodes; users inside continue after the cut


@pytest.fixture(scope="module")
def lab():
    """A lab of `two_regions` in a range of its own, stopped at the end.

    One that runs there already is left running.
    """
    yield from lab_of_blueprint("two_regions", home.lab_range() + 1)


@dataclass
class Person:
    """A registered user."""

    id: str
    name: str
    token: str

    def request(self, base, method, path, body=None):
        return requests.request(method, base + path, json=body, headers={"authorization": f"Bearer {self.token}"}, timeout=8)


def sign_up(base):
    name = f"p{uuid.uuid4().hex[:12]}"
    created = requests.post(f"{base}/2/users", json={"username": name, "name": name, "password": "polly wants it"}, timeout=15)
    form = {"grant_type": "password", "username": name, "password": "polly wants it"}
    token = requests.post(f"{base}/2/oauth2/token", data=form, timeout=15)
    return Person(created.json()["data"]["id"], name, token.json()["access_token"])


def until_acknowledged(person, base, method, path, body=None, within_s=38.0):
    """Repeat a request until it is acknowledged; return the time, monotonic."""
    ends_s = time.monotonic() + within_s
    while time.monotonic() < ends_s:
        try:
            answer = person.request(base, method, path, body)
        except requests.RequestException:
            continue
        if answer.status_code < 300:
            return time.monotonic()
        time.sleep(0.5)
    pytest.fail(f"{method} {path} was never acknowledged")


class Population:
    """Users with tweets, follows and a protected account, created through the load balancer of one region."""

    def __init__(self, base):
        self.base = base
        self.author, self.reader, self.owner, self.friend = (sign_up(base) for _ in range(4))
        self.others = [sign_up(base) for _ in range(6)]
        self.tweets = [self.post(self.author, f"before the cut {number}") for number in range(24)]
        until_acknowledged(self.reader, base, "POST", f"/2/users/{self.reader.id}/following", {"target_user_id": self.author.id})
        until_acknowledged(self.owner, base, "PUT", "/2/users/me", {"protected": True})
        until_acknowledged(self.friend, base, "POST", f"/2/users/{self.friend.id}/following", {"target_user_id": self.owner.id})
        until_acknowledged(self.owner, base, "POST", f"/2/users/{self.owner.id}/follow_requests/{self.friend.id}")
        self.secret = self.post(self.owner, "among friends")
        self.doomed = self.tweets[23]

    def post(self, person, text):
        answer = person.request(self.base, "POST", "/2/tweets", {"text": text})
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]["id"]

    def reads(self):
        """Return the pages that users read while others change them: (name, path, user)."""
        reader, friend = self.reader, self.friend
        return [("doomed", f"/2/tweets/{self.doomed}", reader), ("secret", f"/2/tweets/{self.secret}", friend),
                ("secrets", f"/2/users/{self.owner.id}/tweets", friend),
                ("home", f"/2/users/{reader.id}/timelines/reverse_chronological?max_results=50", reader),
                ("friends", f"/2/users/{friend.id}/timelines/reverse_chronological", friend)]

    def cut_off_requests(self):
        """Return the requests of the users who are cut off: writes of each kind, and reads."""
        author, reader = self.author, self.reader
        likes = [(f"like {tweet}", "POST", f"/2/users/{reader.id}/likes", {"tweet_id": tweet}, reader)
                 for tweet in self.tweets[:6]]
        deletes = [(f"delete {tweet}", "DELETE", f"/2/tweets/{tweet}", None, author) for tweet in self.tweets[10:16]]
        follows = [(f"follow {each.id}", "POST", f"/2/users/{reader.id}/following", {"target_user_id": each.id}, reader)
                   for each in self.others]
        posts = [(f"post {number}", "POST", "/2/tweets", {"text": f"from inside {number}, {{n}}"}, author) for number in (1, 2)]
        writes = [[name, method, path, json.dumps(body) if body else "", person.token, 2.0]
                  for name, method, path, body, person in (*likes, *deletes, *follows, *posts)]
        return writes + [[name, "GET", path, "", person.token, 0.5] for name, path, person in self.reads()]


async def users_inside(lab, region, base, rows):
    """Send these requests from inside a region for INSIDE_S; return every answer."""
    process = await asyncio.create_subprocess_exec(
        *network.inside(lab.paths, NAMES[region]), sys.executable, "-S", "-E", str(CLIENT), base, str(INSIDE_S),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate(json.dumps(rows).encode())
    assert process.returncode == 0
    return [json.loads(line) for line in out.splitlines()]


async def test_users_in_a_cut_off_region_get_no_acknowledgment_that_is_lost(lab):
    """Neither during the cut nor after it; and they do not see what was deleted or hidden in the meantime."""
    active = (await REGION.choose_target(lab, "region")).node
    other = next(name for name in NAMES if name != active)
    inside, outside = (f"http://{lab.address('haproxy', NAMES[name])}" for name in (active, other))
    population = await asyncio.to_thread(Population, outside)
    for _, path, person in population.reads():  # fill the caches of that region too
        assert (await asyncio.to_thread(person.request, inside, "GET", path)).status_code == 200
    wanted = spec.Fault(3.0, "region_cut", active, for_s=HELD_S)
    cut = asyncio.create_task(schedule.run([wanted], lab, time.monotonic_ns(), lab.paths.state))
    await asyncio.sleep(3.2)
    users = asyncio.create_task(users_inside(lab, active, inside, population.cut_off_requests()))
    deleted_s, removed_s = await asyncio.gather(
        asyncio.to_thread(until_acknowledged, population.author, outside, "DELETE", f"/2/tweets/{population.doomed}"),
        asyncio.to_thread(until_acknowledged, population.owner, outside, "DELETE",
                          f"/2/users/{population.owner.id}/followers/{population.friend.id}"))
    [record] = await cut
    answers = await users
    report(answers, record, deleted_s, removed_s)

    assert (record.void, record.recovered_ns is not None) == ("", True)
    assert record.injected_ns / 1e9 < deleted_s and removed_s < record.undone_ns / 1e9
    late = [answer for answer in answers if answer["name"] == "doomed" and answer["sent_s"] > deleted_s]
    assert [answer for answer in late if answer["status"] == 200] == []
    assert [answer for answer in answers if answer["sent_s"] > removed_s and "among friends" in answer["text"]] == []
    assert await asyncio.to_thread(lost_writes, population, outside, answers) == []


def acknowledged(answers, kind):
    return [answer for answer in answers if answer["name"].split()[0] == kind and 200 <= answer["status"] < 300]


def lost_writes(population, base, answers):
    """Return every acknowledged write of the users inside that was lost."""
    lost = []
    for answer in acknowledged(answers, "post"):
        tweet = json.loads(answer["text"])["data"]["id"]
        if population.reader.request(base, "GET", f"/2/tweets/{tweet}").status_code != 200:
            lost.append(f"post {tweet} of {answer['sent_s']}")
    for answer in acknowledged(answers, "delete"):
        if population.reader.request(base, "GET", f"/2/tweets/{answer['name'].split()[1]}").status_code == 200:
            lost.append(answer["name"])
    liked = ids_at(population.reader, base, f"/2/users/{population.reader.id}/liked_tweets")
    lost += [answer["name"] for answer in acknowledged(answers, "like") if answer["name"].split()[1] not in liked]
    followed = ids_at(population.reader, base, f"/2/users/{population.reader.id}/following")
    return lost + [answer["name"] for answer in acknowledged(answers, "follow") if answer["name"].split()[1] not in followed]


def ids_at(person, base, path):
    return {row["id"] for row in person.request(base, "GET", f"{path}?max_results=100").json().get("data", [])}


def report(answers, record, deleted_s, removed_s):
    """Print the statuses that the users inside got, during the cut and after."""
    begins_s, ends_s = record.injected_ns / 1e9, record.undone_ns / 1e9
    print(f"cut {begins_s:.1f} to {ends_s:.1f}, deleted {deleted_s:.1f}, removed {removed_s:.1f}")
    kinds = sorted({answer["name"].split()[0] for answer in answers})
    for name in kinds:
        rows = [answer for answer in answers if answer["name"].split()[0] == name]
        for what, some in (("during", [row for row in rows if row["sent_s"] > begins_s and row["done_s"] < ends_s]),
                           ("after", [row for row in rows if row["sent_s"] > ends_s])):
            counts = {status: sum(row["status"] == status for row in some) for status in sorted({row["status"] for row in some})}
            print(f"{name:<8} {what:<7} {counts}")


@pytest.mark.parametrize("scenario", ["region_cut", "region_loss"])
def test_nothing_acknowledged_is_lost_with_the_active_region(lab, scenario):
    """The scenario itself, shortened.

    It asserts the guarantees to users, not speed, since other programs share the machine.
    """
    command = [sys.executable, "-m", "tweetlab", "run", scenario, "--on", "system", "--json",
               "--set", "workload.stages=[{for: 60 s, rate: 15/s}]", "--set", "faults.0.at=15 s", "--set", "faults.0.for=20 s",
               "--set", "measure.warm_up=5 s", "--set", "objectives=[errors < 100 % whole]"]
    env = {**os.environ, "TWEETLAB_RANGE": str(lab.plan.range)}
    done = subprocess.run(command, cwd=paths.CODE, capture_output=True, text=True, timeout=390, env=env)
    assert done.stdout.startswith("["), f"{done.stdout[:2000]}\n{done.stderr[-3000:]}"
    summary = json.loads(done.stdout)[0]
    [fault] = json.loads((Path(summary["run"]) / "faults.json").read_text())

    assert (fault["void"], fault["recovered_ns"] is not None) == ("", True)
    assert "redis" in " ".join(fault["facts"]["primaries"])
    assert fault["facts"]["nodes"] == len(REGION.named(blueprint.load("two_regions"))[fault["target"]])
    assert {row["name"]: (row["verdict"], row["note"]) for row in summary["invariants"] if row["verdict"] == "fail"} == {}
    assert {row["name"] for row in summary["invariants"] if row["verdict"] == "pass"} >= MUST_HOLD
