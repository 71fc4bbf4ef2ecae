"""Numbers and durations on the command line."""

import pytest

from tweetlab import cli


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["run", "first_run", "--repeat", "nan"],
            "--repeat is 'nan'; it must be a whole number from 1 to 100",
        ),
        (
            ["run", "first_run", "--repeat", "101"],
            "--repeat is '101'; it must be a whole number from 1 to 100",
        ),
        (["logs", "--lines", "inf"], "--lines is 'inf'; it must be a whole number from 1 to 10000"),
        (["logs", "--since", "inf s"], "--since is 'inf s'; it must be a duration"),
        (["traces", "--slow", "1e999s"], "--slow is '1e999s'; it must be a duration"),
        (["traces", "--lines", "1e999"], "--lines is '1e999'; it must be a whole number from 1 to 1000"),
        (["scale", "timelines", "nan"], "INSTANCES is 'nan'; it must be a whole number"),
        (["console", "--port", "inf"], "--port is 'inf'; it must be a whole number from 0 to 65535"),
        (["wan", "--delay", "inf"], "--delay is 'inf'; it must be a duration"),
        (["wan", "--loss", "nan%"], "--loss is 'nan%'"),
        (["wan", "--rate", "1e999mbit"], "--rate is '1e999mbit'; it must be a rate"),
    ],
)
def test_an_option_that_is_not_a_finite_number_is_refused_with_value_and_bound(capsys, words, message):
    """Exit 64, before anything starts."""
    assert cli.run(words) == 64
    assert message in capsys.readouterr().err
