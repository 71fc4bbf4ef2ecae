"""What `run` refuses before anything starts, and what it tells of repeats."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from system.kernel.errors import WrongInput
from tweetlab import asking, cli, reporting, screen


def told(p50_ms: float, verdict: str = "VALID", ok: int = 500):
    """A run of two routes, as far as medians read it."""
    calm = {"ok": ok, "response_ms": {"p50": p50_ms, "p95": p50_ms * 2, "p99": p50_ms * 4}}
    routes = {"post": {"planned": 100, "steady": calm}, "home": {"planned": 900, "steady": calm}}
    return SimpleNamespace(document={"validity": {"verdict": verdict}, "summary": {"routes": routes}})


def test_repeats_are_told_as_the_median_of_their_percentiles():
    """Busiest route first; a void run says nothing."""
    text = reporting.medians([told(4), told(6), told(5), told(900, "VOID")], "A")

    assert text.splitlines() == [
        "median of 3 runs of side A, steady response:",
        "  home         p50 5 ms  p95 10 ms  p99 20 ms",
        "  post         p50 5 ms  p95 10 ms  p99 20 ms",
    ]


def test_a_percentile_that_no_repeat_can_bear_is_a_dash():
    """Fifty operations know no p99."""
    assert reporting.medians([told(4, ok=50), told(6, ok=50)]).splitlines()[1].endswith("p99 –")


def test_void_repeats_alone_have_no_median():
    """Nothing is made up."""
    assert reporting.medians([told(4, "VOID")]) == "median of 0 runs, steady response:"


@pytest.mark.parametrize("words", [["--find-capacity"], ["--versus", "seed=2"], ["--repeat", "2"]], ids=lambda words: words[0])
def test_what_only_the_real_system_answers_is_refused_with_the_twin_alone(words, capsys):
    """A lab must not start for somebody who asked for a simulation."""
    assert cli.run(["run", "first_run", "--on", "twin", *words]) == 64
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize("on", asking.ON)
def test_one_run_may_be_asked_of_everybody(on):
    """Nothing to refuse."""
    asking.check_wishes(on, find_capacity=False, versus=False, repeats=1)


def test_the_real_system_takes_every_wish():
    """`both` too: the twin then answers beside it."""
    asking.check_wishes("both", find_capacity=True, versus=True, repeats=5)
    with pytest.raises(WrongInput, match="moon"):
        asking.check_wishes("moon", find_capacity=False, versus=False, repeats=1)


def test_what_a_log_holds_in_brackets_is_shown_as_it_is():
    """A server's last line must not be read as markup: it would vanish, or end the command with an error of the renderer."""
    seen, shown = io.StringIO(), screen.Screen()
    shown.err = shown.out = Console(file=seen, width=200)
    line = "cassandra-1: [main] cannot open [/var/lib/cassandra]"

    shown.say(line)
    shown.warn(line)
    shown.show(line)

    assert seen.getvalue().count(line) == 3
