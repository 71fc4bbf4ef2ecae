"""Where PostgreSQL's primary belongs in a lab with regions, and when it is moved."""

from types import SimpleNamespace

import pytest

from system.platform import blueprint
from system.platform.regions import primary_placement
from system.platform.regions.primary_placement import Member, agreed, standbys, wanted
from system.platform.servers import patroni
from tests.helpers.contexts import context

REGIONS = {"postgres-1": 1, "postgres-2": 2, "postgres-3": 3}


def members(leader, standby="", replica="", state="streaming"):
    rows = [(leader, "leader", "running"), (standby, "sync_standby", state), (replica, "replica", "streaming")]
    return [Member(name, role, status, f"{name}:8008", 0) for name, role, status in rows if name]


@pytest.mark.parametrize(("current", "active", "target"), [
    (members("postgres-3", "postgres-2"), 2, "postgres-2"),                 # after the loss of the east
    (members("postgres-3", "postgres-1", "postgres-2"), 1, "postgres-1"),
    (members("postgres-1", "postgres-3", "postgres-2"), 1, ""),             # it is there already
    (members("postgres-3", "postgres-1", "postgres-2"), 2, ""),             # the west's is asynchronous: it may lack a commit
    (members("postgres-3", "postgres-2", state="starting"), 2, ""),
    (members("postgres-3", "postgres-2"), 0, ""),                           # the sentinels do not agree
    (members("", "postgres-2"), 2, ""),                                     # a failover is in progress
    ([], 2, ""),
])
def test_the_primary_belongs_in_the_region_of_the_caches(current, active, target):
    """On a member that may lead without data loss, else it does not move."""
    assert wanted(current, REGIONS, active) == target


BOTH = [*members("postgres-3", "postgres-1"), Member("postgres-2", "sync_standby", "streaming", "", 0)]


@pytest.mark.parametrize(("current", "active", "count"), [
    (members("postgres-3", "postgres-1", "postgres-2"), 2, 2),              # as after a start on old data
    ([*members("postgres-3", "postgres-1"), Member("postgres-2", "replica", "streaming", "", 2**21)], 2, 0),
    ([*members("postgres-3", "postgres-1"), Member("postgres-2", "replica", "streaming")], 2, 0),
    ([*members("postgres-3", "postgres-1"), Member("postgres-2", "replica", "starting", "", 0)], 2, 0),
    (members("postgres-3", "", "postgres-2"), 2, 0),                        # nothing is acknowledged now
    (members("postgres-3", "postgres-2", "postgres-1"), 2, 0),              # it can move without a second one
    (BOTH, 2, 0),
    (BOTH, 3, 1),                                                           # it has moved
    (BOTH, 0, 0),
    (members("", "postgres-1", "postgres-2"), 2, 0),
])
def test_a_second_standby_is_synchronous_until_the_primary_has_moved(current, active, count):
    """So that it can move to an asynchronous member, but never to one that lags."""
    assert standbys(current, REGIONS, active) == count


async def test_the_second_standby_is_requested_before_the_primary_moves(placement):
    """Each after STABLE_POLLS polls that agree."""
    placement.lab.members = members("postgres-3", "postgres-1", "postgres-2")
    for _ in range(primary_placement.STABLE_POLLS):
        assert await placement.poll() == ""
    assert placement.requests == [("http://postgres-3:8008/config", {"synchronous_node_count": 2})]

    placement.lab.members = BOTH
    assert [await placement.poll() for _ in range(primary_placement.STABLE_POLLS)][-1] == "postgres-2"
    placement.lab.members = [Member("postgres-2", "leader", "running", "postgres-2:8008"), *members("", "postgres-1"),
                         Member("postgres-3", "sync_standby", "streaming", "", 0)]
    for _ in range(primary_placement.STABLE_POLLS):
        await placement.poll()
    assert placement.requests[2:] == [("http://postgres-2:8008/config", {"synchronous_node_count": 1})]


OLD, NEW = members("postgres-1", "postgres-2"), members("postgres-3", "postgres-2")


@pytest.mark.parametrize(("views", "expected"), [
    ([OLD, NEW, NEW], NEW),          # the first is cut off and still believes that it leads
    ([[], NEW, NEW], NEW),           # or down
    ([OLD, [], NEW], []),
    ([OLD], []),
    ([members("", "postgres-2")] * 3, []),
    ([], []),
])
def test_a_view_counts_if_a_majority_agrees_on_the_leader(views, expected):
    """A member that is cut off reports outdated state."""
    assert agreed(views, 3) == expected


@pytest.fixture
def placement(monkeypatch):
    """A placement over the fake state `lab`, and the `requests` it sends to Patroni."""
    children = {name: SimpleNamespace(node=SimpleNamespace(name=name, kind="postgres", region=region, role="store"))
                for name, region in REGIONS.items()}
    tested, requests, now = primary_placement.PrimaryPlacement(children), [], [1_000.0]
    lab = SimpleNamespace(members=members("postgres-3", "postgres-2"), active=2)

    async def current_members():
        return lab.members

    async def active():
        return lab.active

    tested._members, tested._active = current_members, active
    monkeypatch.setattr(primary_placement, "_request", lambda url, body, method="POST": requests.append((url, body)) or "fine")
    monkeypatch.setattr(primary_placement.time, "monotonic", lambda: now[0])
    return SimpleNamespace(poll=tested.poll, lab=lab, requests=requests, now=now)


async def test_the_primary_moves_after_some_polls_that_agree(placement):
    """One switchover request to its leader."""
    moves = [await placement.poll() for _ in range(primary_placement.STABLE_POLLS + 2)]

    assert moves == ["", "", "postgres-2", "", ""]
    assert placement.requests == [("http://postgres-3:8008/switchover", {"leader": "postgres-3", "candidate": "postgres-2"})]


async def test_a_failover_in_between_restarts_the_count(placement):
    """Earlier polls say nothing about the state after it."""
    await placement.poll()
    await placement.poll()
    placement.lab.active = 0
    await placement.poll()
    placement.lab.active = 2

    assert [await placement.poll() for _ in range(2)] == ["", ""] and placement.requests == []


async def test_after_a_switchover_there_is_a_cool_down(placement):
    """A switchover that did not succeed is not requested again immediately."""
    for _ in range(primary_placement.STABLE_POLLS):
        await placement.poll()
    placement.now[0] += primary_placement.COOL_DOWN_S + 1

    assert await placement.poll() == "postgres-2" and len(placement.requests) == 2


def test_a_lab_with_regions_starts_with_its_primary_in_the_east():
    """The other members wait for the first, only at their first start; those of a cluster do not wait."""
    first, second = (patroni._after_first(context(f"postgres-{n}")) for n in (1, 2))

    assert first == [] and second[0].argv[-1] == "http://10.21.40.1:8008" and second[0].unless.name == "PG_VERSION"
    assert patroni._after_first(context("postgres-2", blueprint.load("cluster"))) == []
