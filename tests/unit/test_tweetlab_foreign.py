"""CPU of other programs during a run: who used it, and which windows count."""

import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from reports import accounts
from system.kernel.errors import WrongInput
from tweetlab.run import foreign

BURN = "import time; end = time.time() + 60\nwhile time.time() < end: pass"


@pytest.fixture
def burning():
    """A process that computes; ended after the test."""
    process = subprocess.Popen([sys.executable, "-c", BURN, "a-program-that-burns"])
    yield process
    process.kill()
    process.wait()


def watched(watch, seconds=0.5):
    time.sleep(seconds)
    watch.read()
    return {program.command: program.core_s for program in watch.busiest()}


def test_a_foreign_program_is_named_with_its_cpu(burning):
    """Half a second of a busy process, seen by a watch to which nothing else belongs."""
    watch = foreign.Watch([1_000_000], "no-lab")

    used = watched(watch)

    mine = [core_s for command, core_s in used.items() if "import time" in command]
    assert mine and 0.2 < mine[0] <= 0.7


def test_our_own_processes_are_not_foreign(burning):
    """Descendants of a given process are ours."""
    watch = foreign.Watch([os.getpid()], "no-lab")

    assert not any("import time" in command for command in watched(watch))


def test_a_process_that_carries_the_labs_name_is_ours():
    """It left the supervisor's tree, as PostgreSQL's server may."""
    process = subprocess.Popen([sys.executable, "-c", BURN], env={**os.environ, "TWEETLAB_LAB": "lab-7"})
    try:
        watch = foreign.Watch([1_000_000], "lab-7")
        assert not any("import time" in command for command in watched(watch))
    finally:
        process.kill()
        process.wait()


def series(foreign_cores):
    """Samples of one process and the host, with foreign CPU by second."""
    seconds = np.arange(len(foreign_cores), dtype=float)
    frames = [pd.DataFrame({"t_s": seconds, "name": "cpu_cores", "node": "gateway-1", "value": 1.0}),
              pd.DataFrame({"t_s": seconds, "name": "host_busy_cores", "node": "", "value": 1.0 + np.asarray(foreign_cores)})]
    return pd.concat(frames, ignore_index=True)


def test_a_window_with_foreign_cpu_does_not_close():
    """3 % of the busy time, or 0.03 core, may be unowned: 0.02 closes, 0.1 does not. Windows do not cross stages."""
    found = accounts.of_run(series([0.02] * 5 + [0.1] * 5 + [0.0] * 7), [(0.0, 10.0), (10.0, 17.0)])

    assert found.closed.tolist() == [True, False, True]
    assert (found.starts_s.tolist(), found.stage.tolist()) == ([0.0, 5.0, 10.0], [0, 0, 1])
    assert found.dropped == pytest.approx(1 / 3)
    assert not found.counts


def test_cpu_that_is_counted_twice_does_not_close_either():
    assert not accounts.of_run(series([-0.2] * 5), [(0.0, 5.0)]).closed.any()


def test_a_run_without_samples_has_no_accounts():
    with pytest.raises(WrongInput, match="cpu_cores"):
        accounts.of_run(series([0.0] * 5).head(0), [(0.0, 5.0)])


def test_the_kernels_threads_are_listed_apart():
    """Their CPU is a sum over all of them, and they are never named as foreign programs."""
    threads = foreign.kernel_threads()
    if not threads:
        pytest.skip("this machine does not show the threads of its kernel")
    assert foreign.cpu_ns(threads) > 0
    watch = foreign.Watch([1_000_000], "no-lab")
    assert not any(command.startswith("[k") for command in watched(watch, 0.2))
