"""The cluster as a whole, once it is up."""

import pytest

from system.platform import blueprint

pytestmark = [pytest.mark.real, pytest.mark.slow]
CLUSTER = blueprint.load("cluster")


async def test_every_node_of_the_three_zones_is_healthy(cluster):
    """None is missing, none is unhealthy."""
    rows = await cluster.status()

    assert {row.name for row in rows} >= {node.name for node in CLUSTER.nodes}
    assert {row.name: row.health for row in rows if row.health != "healthy"} == {}
