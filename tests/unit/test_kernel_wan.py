"""Lines between regions: what a packet meets on its way, decided without a packet."""

import pytest

from system.kernel.errors import WrongInput
from system.kernel.wan import MAX_WAITING_BYTES, Line, Way

SURE = 0.999999  # a draw that no loss below 1 takes


def test_a_packet_comes_out_after_its_delay():
    """A line that does nothing lets it out at once."""
    assert Way(Line(delay_s=0.02)).enter(5.0, 1000, SURE, 0.0) == pytest.approx(5.02)
    assert Way(Line()).enter(5.0, 1000, SURE, 0.0) == 5.0


def test_a_rate_makes_packets_wait_for_each_other():
    """At 8 kbit/s a packet of 1,000 bytes takes a second; the second one begins when the first is through."""
    way = Way(Line(delay_s=0.5, rate_bps=8_000))

    assert [way.enter(0.0, 1000, SURE, 0.0) for _ in range(3)] == pytest.approx([1.5, 2.5, 3.5])
    assert way.enter(10.0, 1000, SURE, 0.0) == pytest.approx(11.5)


def test_packets_keep_their_order_whatever_the_jitter():
    """A late packet holds up those behind it, as TCP would have it anyway."""
    way = Way(Line(delay_s=0.01, jitter_s=0.03))

    first, second = way.enter(0.0, 100, SURE, 1.0), way.enter(0.001, 100, SURE, 0.0)

    assert first == pytest.approx(0.04) and second == first


def test_a_loss_takes_its_share():
    """The draw decides; what is lost is counted and takes no time of the line."""
    way = Way(Line(loss=0.1, rate_bps=8_000))

    assert way.enter(0.0, 1000, 0.0999, 0.0) is None
    assert way.enter(0.0, 1000, 0.1, 0.0) == pytest.approx(1.0)
    assert (way.packets, way.bytes, way.lost) == (1, 1000, 1)


def test_a_cut_line_lets_nothing_through_until_it_is_whole():
    """Cut and fixed, with all the rest as it was."""
    way = Way(Line(delay_s=0.01, cut=True))
    assert way.enter(0.0, 100, SURE, 0.0) is None

    way.line = Line(delay_s=0.01)

    assert way.enter(1.0, 100, SURE, 0.0) == pytest.approx(1.01)


def test_what_waits_is_bounded():
    """A full line drops what comes; its owner counts out what left."""
    way = Way(Line(delay_s=1.0), waiting=MAX_WAITING_BYTES - 100)

    assert way.enter(0.0, 101, SURE, 0.0) is None
    assert way.enter(0.0, 100, SURE, 0.0) is not None


@pytest.mark.parametrize(("wrong", "told"), [
    ({"delay_s": -0.1}, "delay_s .* is -0.1; it must be from 0 to 10 seconds"),
    ({"delay_s": float("nan")}, "delay_s .* is nan"),
    ({"jitter_s": 11}, "jitter_s .* is 11"),
    ({"loss": 1.5}, "loss .* is 1.5; it must be from 0 to 1 "),
    ({"rate_bps": "fast"}, "rate_bps .* is 'fast'"),
    ({"cut": "yes"}, "cut .* is 'yes'"),
])  # fmt: skip
def test_a_line_that_cannot_be_is_refused(wrong, told):
    """The error names the value and the bound."""
    with pytest.raises(WrongInput, match=told):
        Line(**wrong)
