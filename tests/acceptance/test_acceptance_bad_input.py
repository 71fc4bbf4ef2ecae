"""Bad input to the command line: one message that names value, bound and fix, the right exit code, no traceback."""

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
    "an unknown word for --on": (["run", "first_run", "--on", "moon"], 64, "moon"),
    "no such run": (["report", "nobody/never"], 64, "nobody/never"),
    "no such list": (["list", "dragons"], 64, "dragons"),
    "an unknown option": (["run", "first_run", "--fast"], 64, "--fast"),
    "no such graph": (["check", "first_run", "--set", "population.graph=/nowhere/x.edges"], 64, "/nowhere/x.edges"),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_bad_input_is_reported_with_its_fix(name):
    """Exit 64; the message contains the wrong or the intended word."""
    words, code, word = CASES[name]

    result = tweetlab(*words, timeout_s=60)

    assert result.code == code, result.err
    assert word in result.err
    assert "Traceback" not in result.err + result.out


def test_with_json_an_error_is_json_too():
    """Programs parse it like a result."""
    result = tweetlab("check", "frist_run", "--json", timeout_s=60)

    assert result.code == 64
    assert json.loads(result.out)["error"]["exit_code"] == 64


def test_a_malformed_edge_list_is_reported_with_its_line(tmp_path):
    """The third line names no follower."""
    path = tmp_path / "bad.edges"
    path.write_text("1 2\n2 3\nfour\n")

    result = tweetlab("run", "first_run", "--on", "twin", "--graph", str(path), timeout_s=60)

    assert result.code == 64
    assert "line 3" in result.err and "four" in result.err


ELSEWHERE = "231"  # a separate range, so that the lab under test is not touched


def test_a_full_disk_is_reported_before_anything_starts():
    """Exit 3; the message names the missed bound and how to change it."""
    result = tweetlab("up", TWEETLAB_RANGE=ELSEWHERE, TWEETLAB_MIN_FREE_MIB="999999999", timeout_s=60)

    assert result.code == 3
    assert "TWEETLAB_MIN_FREE_MIB" in result.err and "Traceback" not in result.err
    assert tweetlab("status", "--json", TWEETLAB_RANGE=ELSEWHERE).json() == []


def test_a_port_in_use_is_reported_with_its_address_and_nothing_stays_up():
    """Exit 3; the message names the address."""
    address = (f"127.{ELSEWHERE}.30.1", 6379)
    with socket.create_server(address):
        result = tweetlab("up", TWEETLAB_RANGE=ELSEWHERE, timeout_s=90)

    assert result.code == 3
    assert f"{address[0]}:{address[1]}" in result.err and "Traceback" not in result.err
    assert tweetlab("status", "--json", TWEETLAB_RANGE=ELSEWHERE).json() == []
