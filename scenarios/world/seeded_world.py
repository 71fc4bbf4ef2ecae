"""The state that a run starts from: follow graph, past tweets, protected users and likes, drawn once from the seed.

    world = seeded_world.draw(scenario.population, scenario.seed)

Seeding writes it into the stores, the tape is drawn over it, the invariants compare with it, and the twin
starts from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from scenarios import spec
from scenarios.world import population, private_circle, seeded_tweets


@dataclass(frozen=True)
class World:
    """`graph`: users and follows. `past`: seeded tweets. `circle`: protected users. `likes`: seeded likes."""

    graph: population.Graph
    past: seeded_tweets.History
    circle: private_circle.Circle
    likes: private_circle.Likes


def draw(wanted: spec.Population, seed: int) -> World:
    """Draw the whole state. Raises WrongInput if a graph file is unreadable or `wanted.likes` is too high."""
    return over(population.graph_of(wanted, seed), wanted, seed)


def over(graph: population.Graph, wanted: spec.Population, seed: int, past: seeded_tweets.History | None = None) -> World:
    """Draw the rest over an existing `graph`.

    `past`: the seeded tweets; None draws `wanted.history_tweets` per user.
    """
    if past is None:
        past = seeded_tweets.generate(graph.users, wanted.history_tweets, seed)
    circle = private_circle.protected_users_of(graph, wanted, seed)
    return World(graph, past, circle, private_circle.likes_of(circle, past, wanted, seed))
