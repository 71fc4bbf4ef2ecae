"""Ctrl-C during the load: the load ends, the report is still written, and the exit code is 130."""

import os
import signal
import subprocess
import sys

import pytest

from tests.helpers.command import ROOT, tweetlab

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.usefixtures("lab")]


def test_ctrl_c_ends_the_load_and_still_writes_the_report():
    """Exit 130; the record contains what was measured until then, and its verdict is VOID."""
    words = [sys.executable, "-m", "tweetlab", "run", "first_run", "--on", "system", "--json",
             "--set", "population.users=200", "--set", "population.follows={shape: even, mean: 10, max: 20}"]
    run = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy())
    assert run.stderr is not None
    for line in run.stderr:
        if " 5 s  operations so far" in line:
            run.send_signal(signal.SIGINT)
            break
    out, err = run.communicate(timeout=120)

    assert run.returncode == 130, err[-2000:]
    result = tweetlab("report", "latest", "--json").json()
    assert result["record"]["verdict"] == "VOID"
    assert 0 < sum(route["sent"] for route in result["record"]["summary"]["routes"].values()) < 1000
    assert '"ran to its end"' in out
