"""Links between regions: delay, loss, rate and cuts, without real packets."""

import pytest

from system.kernel.errors import WrongInput
from system.kernel.wan import MAX_WAITING_BYTES, Link, LinkState

SURE = 0.999999  # a draw that survives any loss below 1


def test_a_packet_leaves_after_its_delay():
    """A default link passes it immediately."""
    assert LinkState(Link(delay_s=0.02)).enter(5.0, 1000, SURE, 0.0) == pytest.approx(5.02)
    assert LinkState(Link()).enter(5.0, 1000, SURE, 0.0) == 5.0


def test_a_rate_makes_packets_wait_for_each_other():
    """At 8 kbit/s a packet of 1,000 bytes takes a second; the second one starts when the first is sent."""
    link = LinkState(Link(delay_s=0.5, rate_bps=8_000))

    assert [link.enter(0.0, 1000, SURE, 0.0) for _ in range(3)] == pytest.approx([1.5, 2.5, 3.5])
    assert link.enter(10.0, 1000, SURE, 0.0) == pytest.approx(11.5)


def test_packets_keep_their_order_despite_jitter():
    """A late packet delays those behind it, as TCP would anyway."""
    link = LinkState(Link(delay_s=0.01, jitter_s=0.03))

    first, second = link.enter(0.0, 100, SURE, 1.0), link.enter(0.001, 100, SURE, 0.0)

    assert first == pytest.approx(0.04) and second == first


def test_a_loss_drops_its_fraction():
    """The draw decides; a lost packet is counted and uses no bandwidth."""
    link = LinkState(Link(loss=0.1, rate_bps=8_000))

    assert link.enter(0.0, 1000, 0.0999, 0.0) is None
    assert link.enter(0.0, 1000, 0.1, 0.0) == pytest.approx(1.0)
    assert (link.packets, link.bytes, link.lost) == (1, 1000, 1)


def test_a_cut_link_passes_nothing_until_it_is_restored():
    """Cut and restored, with its other settings unchanged."""
    link = LinkState(Link(delay_s=0.01, cut=True))
    assert link.enter(0.0, 100, SURE, 0.0) is None

    link.line = Link(delay_s=0.01)

    assert link.enter(1.0, 100, SURE, 0.0) == pytest.approx(1.01)


def test_the_queue_is_bounded():
    """A full link drops packets; its owner subtracts the bytes that left."""
    link = LinkState(Link(delay_s=1.0), waiting=MAX_WAITING_BYTES - 100)

    assert link.enter(0.0, 101, SURE, 0.0) is None
    assert link.enter(0.0, 100, SURE, 0.0) is not None


@pytest.mark.parametrize(("params", "message"), [
    ({"delay_s": -0.1}, "delay_s .* is -0.1; it must be from 0 to 10 seconds"),
    ({"delay_s": float("nan")}, "delay_s .* is nan"),
    ({"jitter_s": 11}, "jitter_s .* is 11"),
    ({"loss": 1.5}, "loss .* is 1.5; it must be from 0 to 1 "),
    ({"rate_bps": "fast"}, "rate_bps .* is 'fast'"),
    ({"cut": "yes"}, "cut .* is 'yes'"),
])  # fmt: skip
def test_an_invalid_link_is_rejected(params, message):
    """The error names the value and the bound."""
    with pytest.raises(WrongInput, match=message):
        Link(**params)
