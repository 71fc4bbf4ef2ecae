"""Bad input to the command: one message that names value, bound and fix, the right exit code, never a traceback."""

import json
import socket

import pytest

from tests.helpers.command import tweetlab

CASES = {
    "an unknown command": (["fly"], 64, "fly"),
    "an unknown scenario": (["run", "frist_run", "--on", "twin"], 64, "first_run"),
    "an unknown key": (["check", "first_run", "--set", "workload.mx.home=1"], 64, "mx"),
    "an unknown unit": (["check", "first_run", "--set", "measure.warm_up=5 parsecs"], 64, "parsecs"),
    "an unknown route": (["check", "first_run", "--set", "workload.mix.hoem=1"], 64, "home"),
    "an unknown blueprint": (["up", "smal"], 64, "small"),
    "whom to ask": (["run", "first_run", "--on", "moon"], 64, "moon"),
    "no such run": (["report", "nobody/never"], 64, "nobody/never"),
    "no such list": (["list", "dragons"], 64, "dragons"),
    "an option that is none": (["run", "first_run", "--fast"], 64, "--fast"),
    "no such graph": (["check", "first_run", "--set", "population.graph=/nowhere/x.edges"], 64, "/nowhere/x.edges"),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_bad_input_is_named_with_its_mend(name):
    """Exit 64; the message holds what was wrong or what was meant."""
    words, code, word = CASES[name]

    said = tweetlab(*words, timeout_s=60)

    assert said.code == code, said.err
    assert word in said.err
    assert "Traceback" not in said.err + said.out


def test_with_json_an_error_is_json_too():
    """Programs read it as they read results."""
    said = tweetlab("check", "frist_run", "--json", timeout_s=60)

    assert said.code == 64
    assert json.loads(said.out)["error"]["exit_code"] == 64


def test_a_malformed_edge_list_is_told_with_its_line(tmp_path):
    """The third line names no follower."""
    path = tmp_path / "bad.edges"
    path.write_text("1 2\n2 3\nfour\n")

    said = tweetlab("run", "first_run", "--on", "twin", "--graph", str(path), timeout_s=60)

    assert said.code == 64
    assert "line 3" in said.err and "four" in said.err


ELSEWHERE = "231"  # a range of its own: nothing of the lab under test is touched


def test_a_full_disk_is_told_before_anything_starts():
    """Exit 3; the bound that is missed and what moves it."""
    said = tweetlab("up", TWEETLAB_RANGE=ELSEWHERE, TWEETLAB_MIN_FREE_MIB="999999999", timeout_s=60)

    assert said.code == 3
    assert "TWEETLAB_MIN_FREE_MIB" in said.err and "Traceback" not in said.err
    assert tweetlab("status", "--json", TWEETLAB_RANGE=ELSEWHERE).json() == []


def test_a_port_in_use_is_told_with_its_address_and_nothing_stays_up():
    """Exit 3; the address that is taken."""
    address = (f"127.{ELSEWHERE}.30.1", 6379)
    with socket.create_server(address):
        said = tweetlab("up", TWEETLAB_RANGE=ELSEWHERE, timeout_s=90)

    assert said.code == 3
    assert f"{address[0]}:{address[1]}" in said.err and "Traceback" not in said.err
    assert tweetlab("status", "--json", TWEETLAB_RANGE=ELSEWHERE).json() == []
