"""A real edge list instead of a generated graph: the users are those of the file."""

import json
import os
import urllib.request
from pathlib import Path

import pytest

from tests.helpers.command import ROOT, tweetlab

REED98 = ROOT.parent / "shared" / "data" / "socfb-Reed98.edges"


def small_list(folder: Path) -> Path:
    """Forty users in a ring, each also following user 7."""
    path = folder / "ring.edges"
    path.write_text("# a ring\n" + "".join(f"{n} {n % 40 + 1}\n" for n in range(1, 41))
                    + "".join(f"{n} 7\n" for n in range(1, 41) if n not in (6, 7)))
    return path


@pytest.mark.parametrize("source", ["ring", "reed98"])
def test_the_twin_predicts_an_edge_list(source, tmp_path):
    """Python alone; 962 users and 18,812 edges if the file is available."""
    if source == "reed98" and not REED98.exists():
        pytest.skip(f"{REED98.name} is not next to this checkout; the small list is tested")
    path = REED98 if source == "reed98" else small_list(tmp_path)

    result = tweetlab("run", "first_run", "--on", "twin", "--graph", str(path), "--json", "--set", "workload.stages.0.for=15 s",
                    "--set", "faults=[]", "--set", "objectives=[errors < 0.5 % whole]", "--set", "measure.warm_up=1 s")

    assert result.out, result.err
    assert result.json()[0]["summary"]["routes"]["home"]["ok"] > 50


def test_the_command_shows_how_a_graph_file_would_be_read(tmp_path):
    """One line of text, every figure with `--json`. 7 and 8 follow each other: 77 pairs, 154 follows."""
    path = small_list(tmp_path)

    result, as_json = tweetlab("graph", str(path)), tweetlab("graph", str(path), "--json", "--undirected")

    assert result.code == 0
    assert "40 users, 78 follows, directed" in result.out and "largest audience 39 (id 7)" in result.out
    assert as_json.json()["users"] == 40 and as_json.json()["follows"] == 154 and as_json.json()["undirected"]
    swapped = tweetlab("graph", str(path), "--direction", "followee_follower", "--json")
    assert swapped.json()["largest_audience"] == 2


@pytest.mark.parametrize(("words", "message"), [
    (["/nowhere/x.edges"], "/nowhere/x.edges"), ([], "Missing argument"),
    (["FILE", "--direction", "folower_followee"], "follower_followee"),
])
def test_the_command_refuses_an_invalid_graph_file(words, message, tmp_path):
    """Exit 64, one message with the wrong or the intended word."""
    path = str(small_list(tmp_path))

    result = tweetlab("graph", *(path if word == "FILE" else word for word in words))

    assert result.code == 64 and message in result.err and "Traceback" not in result.err


def test_a_run_reports_how_its_graph_file_was_read(tmp_path):
    """The same line and the same hint as the command; the options reach the population."""
    path = tmp_path / "pairs.edges"
    path.write_text("".join(f"{n} {n % 40 + 1}\n" for n in range(1, 41)))
    words = ["run", "first_run", "--on", "twin", "--graph", str(path), "--json", "--set", "faults=[]",
             "--set", "workload.stages.0.for=15 s", "--set", "measure.warm_up=1 s",
             "--set", "objectives=[errors < 0.5 % whole]"]

    plain, both = tweetlab(*words), tweetlab(*words, "--undirected", "--direction", "follower_followee")

    assert "40 users, 40 follows, directed" in plain.err
    assert "hint: no two users follow each other" in plain.err
    assert "40 users, 80 follows, undirected" in both.err and "hint" not in both.err
    assert both.json()[0]["scenario"]["resolved"]["population"]["undirected"] is True


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.usefixtures("lab")
def test_an_edge_list_is_seeded_into_the_stores(tmp_path):
    """User 7 of the ring has 39 followers by the API."""
    path = small_list(tmp_path)

    seeded = tweetlab("seed", "first_run", "--graph", str(path), "--json").json()

    assert (seeded["users"], seeded["follows"]) == (40, 78)
    assert seeded["graph_file"]["largest_audience_id"] == "7"
    counts = sorted(_profile(n)["public_metrics"]["followers_count"] for n in range(1, 41))
    assert (counts[-1], counts[0]) == (39, 1)


def _profile(user: int) -> dict:
    from system.platform import native
    from tweetlab.lab import session

    lab = native.Lab(ROOT, int(os.environ["TWEETLAB_RANGE"]))
    import time

    import jwt

    claims = {"sub": "1", "iat": int(time.time()), "exp": int(time.time()) + 60, "scope": "users.read"}
    token = jwt.encode(claims, session.secret_of(lab), "HS256")
    url = f"{session.public_url(lab)}/2/users/{user}?user.fields=public_metrics"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.loads(reply.read())["data"]
