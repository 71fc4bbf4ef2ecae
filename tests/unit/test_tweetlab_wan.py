"""`tweetlab wan`: which links are changed, and how."""

import pytest

from system.kernel.errors import WrongInput
from tweetlab.commands import wan


def test_without_names_all_links_between_regions_are_changed():
    """The links of outside users are left alone."""
    pairs = wan._pairs(("", ""), False)

    assert len(pairs) == 6 and all(4 not in pair for pair in pairs)


def test_two_names_select_both_directions_or_one():
    """In the given order."""
    assert wan._pairs(("east", "west"), False) == [[1, 2], [2, 1]]
    assert wan._pairs(("west", "outside"), True) == [[2, 4]]


@pytest.mark.parametrize(("between", "one_way", "message"), [
    (("east", "wst"), False, 'names \'wst\'; regions are east, west, witness, outside. Did you mean "west"?'),
    (("east", "east"), False, "'east' twice"),
    (("", ""), True, "--one-way needs --between"),
])
def test_unknown_links_are_refused(between, one_way, message):
    """The message names value, bound and fix."""
    with pytest.raises(WrongInput) as problem:
        wan._pairs(between, one_way)
    assert message in problem.value.detail


def test_quantities_carry_their_units():
    """Options that are not given change nothing."""
    assert wan._change("40ms", "", "1%", "10mbit", None) == {"delay_s": 0.04, "loss": 0.01, "rate_bps": 1e7}
    assert wan._change("", "5 ms", "", "0", True) == {"cut": True, "jitter_s": 0.005, "rate_bps": 0.0}
    assert wan._change("", "", "", "", None) == {}


@pytest.mark.parametrize(("options", "message"), [
    (("40", "", "", ""), "--delay is '40'; it must be a"), (("", "", "2", ""), "--loss is '2'"),
    (("", "", "", "10"), "--rate is '10'"), (("11s", "", "", ""), "delay_s of a link between regions is 11"),
])
def test_invalid_link_values_are_refused(options, message):
    """Before the lab is contacted."""
    with pytest.raises(WrongInput) as problem:
        wan._change(*options, None)
    assert message in problem.value.detail
