"""Launch contexts of the nodes of a blueprint."""

from pathlib import Path

from system.platform import blueprint
from system.platform.addresses import Plan
from system.platform.paths import Paths
from system.platform.servers.base import Context

REGIONS, CLUSTER, SMALL = (blueprint.load(name) for name in ("two_regions", "cluster", "small"))

PATHS = Paths(Path("/parrots"), 21)


def context(name, of=REGIONS):
    node = next(node for node in of.nodes if node.name == name)
    return Context(node, of, Plan(21), PATHS, {"TWEETLAB_EDGE_SECRET": "polly"})
