"""Where PostgreSQL's primary belongs in a lab of regions, and how long it is waited before it is moved."""

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
    return [Member(name, role, told, f"{name}:8008", 0) for name, role, told in rows if name]


@pytest.mark.parametrize(("standing", "active", "to"), [
    (members("postgres-3", "postgres-2"), 2, "postgres-2"),                 # after the loss of the east
    (members("postgres-3", "postgres-1", "postgres-2"), 1, "postgres-1"),
    (members("postgres-1", "postgres-3", "postgres-2"), 1, ""),             # it stands there
    (members("postgres-3", "postgres-1", "postgres-2"), 2, ""),             # the west's is behind: it may lack a commit
    (members("postgres-3", "postgres-2", state="starting"), 2, ""),
    (members("postgres-3", "postgres-2"), 0, ""),                           # the sentinels agree on nobody
    (members("", "postgres-2"), 2, ""),                                     # a failover is under way
    ([], 2, ""),
])
def test_the_primary_belongs_where_the_caches_is(standing, active, to):
    """To a member that may lead without a loss, or nobody."""
    assert wanted(standing, REGIONS, active) == to


BOTH = [*members("postgres-3", "postgres-1"), Member("postgres-2", "sync_standby", "streaming", "", 0)]


@pytest.mark.parametrize(("standing", "active", "many"), [
    (members("postgres-3", "postgres-1", "postgres-2"), 2, 2),              # as after a start on old data
    ([*members("postgres-3", "postgres-1"), Member("postgres-2", "replica", "streaming", "", 2**21)], 2, 0),
    ([*members("postgres-3", "postgres-1"), Member("postgres-2", "replica", "streaming")], 2, 0),
    ([*members("postgres-3", "postgres-1"), Member("postgres-2", "replica", "starting", "", 0)], 2, 0),
    (members("postgres-3", "", "postgres-2"), 2, 0),                        # nothing is acknowledged now
    (members("postgres-3", "postgres-2", "postgres-1"), 2, 0),              # it may be moved as it stands
    (BOTH, 2, 0),
    (BOTH, 3, 1),                                                           # it is there
    (BOTH, 0, 0),
    (members("", "postgres-1", "postgres-2"), 2, 0),
])
def test_a_second_standby_is_synchronous_until_the_primary_has_moved(standing, active, many):
    """So that it can move to a member that was not; but never to one that lags."""
    assert standbys(standing, REGIONS, active) == many


async def test_the_second_one_is_asked_for_before_the_primary_moves(look):
    """Each after some looks that say the same."""
    look.told.members = members("postgres-3", "postgres-1", "postgres-2")
    for _ in range(primary_placement.CALM_LOOKS):
        assert await look.once() == ""
    assert look.asked == [("http://postgres-3:8008/config", {"synchronous_node_count": 2})]

    look.told.members = BOTH
    assert [await look.once() for _ in range(primary_placement.CALM_LOOKS)][-1] == "postgres-2"
    look.told.members = [Member("postgres-2", "leader", "running", "postgres-2:8008"), *members("", "postgres-1"),
                         Member("postgres-3", "sync_standby", "streaming", "", 0)]
    for _ in range(primary_placement.CALM_LOOKS):
        await look.once()
    assert look.asked[2:] == [("http://postgres-2:8008/config", {"synchronous_node_count": 1})]


OLD, NEW = members("postgres-1", "postgres-2"), members("postgres-3", "postgres-2")


@pytest.mark.parametrize(("views", "expected"), [
    ([OLD, NEW, NEW], NEW),          # the first is cut off and believes that it leads
    ([[], NEW, NEW], NEW),           # or lost
    ([OLD, [], NEW], []),
    ([OLD], []),
    ([members("", "postgres-2")] * 3, []),
    ([], []),
])
def test_members_are_believed_where_most_agree_on_who_leads(views, expected):
    """One that is cut off tells what was true before."""
    assert agreed(views, 3) == expected


@pytest.fixture
def look(monkeypatch):
    """A placement whose lab stands as told, and the switchovers that it asks for."""
    children = {name: SimpleNamespace(node=SimpleNamespace(name=name, kind="postgres", region=region, role="store"))
                for name, region in REGIONS.items()}
    made, asked, now = primary_placement.PrimaryPlacement(children), [], [1_000.0]
    told = SimpleNamespace(members=members("postgres-3", "postgres-2"), active=2)

    async def standing():
        return told.members

    async def active():
        return told.active

    made._members, made._active = standing, active
    monkeypatch.setattr(primary_placement, "_asked", lambda url, body, method="POST": asked.append((url, body)) or "fine")
    monkeypatch.setattr(primary_placement.time, "monotonic", lambda: now[0])
    return SimpleNamespace(once=made.look, told=told, asked=asked, now=now)


async def test_it_is_moved_when_the_same_was_to_be_done_for_some_looks(look):
    """By its leader, once."""
    told = [await look.once() for _ in range(primary_placement.CALM_LOOKS + 2)]

    assert told == ["", "", "postgres-2", "", ""]
    assert look.asked == [("http://postgres-3:8008/switchover", {"leader": "postgres-3", "candidate": "postgres-2"})]


async def test_a_failover_in_between_begins_the_count_anew(look):
    """What was seen before says nothing about what stands now."""
    await look.once()
    await look.once()
    look.told.active = 0
    await look.once()
    look.told.active = 2

    assert [await look.once() for _ in range(2)] == ["", ""] and look.asked == []


async def test_after_a_move_it_is_left_alone_for_a_while(look):
    """One that did not succeed is not asked for again at once."""
    for _ in range(primary_placement.CALM_LOOKS):
        await look.once()
    look.now[0] += primary_placement.COOL_DOWN_S + 1

    assert await look.once() == "postgres-2" and len(look.asked) == 2


def test_a_lab_in_regions_begins_in_the_east():
    """The other members wait for the first, at their first start alone; those of a cluster for nobody."""
    first, second = (patroni._after_first(context(f"postgres-{n}")) for n in (1, 2))

    assert first == [] and second[0].argv[-1] == "http://10.21.40.1:8008" and second[0].unless.name == "PG_VERSION"
    assert patroni._after_first(context("postgres-2", blueprint.load("cluster"))) == []
