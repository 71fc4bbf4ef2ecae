"""What processes remember beside the caches: who is protected, a view of the index, where a band of matches ends, and
what the edge holds.

Each is a value with an age. Who finds it too old asks again, the others look it up; so at low load every request pays for it, and
under load one in many does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sim import services
from sim.engine import Engine
from sim.jobs import Job
from system.kernel.policies import Policies

REFRESH_AT = 0.25   # of its life, when a view of who is protected is read again: system/services/shared/ttl_value.py
VIEW_SHARED_S = 0.2  # searches that begin within this time share a view of the index: system/stores/elasticsearch/index.py
BAND_TTL_S = 30.0   # how old the knowledge may be where a band ends: system/services/search/handlers.py
OWN_WORDS = 2       # one search in so many looks for a word of this very run: tweetlab/load/generator/journeys.py
REFRESH_S = 1.0     # `refresh_interval` of the index: system/stores/elasticsearch/tweets.json
"""The twin may not import those modules; tests hold the numbers equal."""

FOREVER_AGO = float("-inf")


@dataclass
class Known:
    """What one process knows. `privacy_s`: begin of the last read; `reading`: a further one is under way.

    `view_s`: when its view of the index was opened. `bands`: query -> until when its end is known.
    """

    privacy_s: float = FOREVER_AGO
    reading: bool = False
    view_s: float = FOREVER_AGO
    bands: dict[Any, float] = field(default_factory=dict)


class Views:
    """The memories of all processes of one replication."""

    def __init__(self, engine: Engine, policies: Policies) -> None:
        self._engine, self._ttl_s = engine, policies.cache.privacy_ttl_s
        self._known: dict[str, Known] = {}
        self._edge: set[int] = set()

    def bind(self) -> None:
        """Give the names of views and edge their meaning."""
        bindings = self._engine.bindings
        bindings.predicates |= {
            "index_view_is_old": lambda job: self._now() >= self._of(job, services.SEARCH).view_s + VIEW_SHARED_S,
            "band_unknown": lambda job: self._now() >= self._of(job, services.SEARCH).bands.get(_words(job), FOREVER_AGO),
            "edge_has_it": lambda job: job.ctx.index in self._edge,
        }
        bindings.effects |= {
            "index_view_opened": self._view_opened,
            "band_known": self._band_known,
            "edge_keeps": lambda job: self._edge.add(job.ctx.index),
        }
        bindings.keys["index_view"] = lambda job: ("view", self._name(job, services.SEARCH))
        for service in services.READERS:
            self._bind_privacy(service)

    def _bind_privacy(self, service: str) -> None:
        bindings, name = self._engine.bindings, f"{service}.privacy"

        def age_s(job: Job) -> float:
            return self._now() - self._of(job, service).privacy_s

        def ages(job: Job) -> bool:
            known = self._of(job, service)
            if known.reading or self._now() - known.privacy_s < self._ttl_s * REFRESH_AT:
                return False
            known.reading = True
            return True

        def read(job: Job) -> None:
            known = self._of(job, service)
            known.privacy_s, known.reading = self._now(), False

        bindings.predicates |= {f"{name}_expired": lambda job: age_s(job) >= self._ttl_s, f"{name}_ages": ages}
        bindings.effects[f"{name}_read"] = read
        bindings.keys[name] = lambda job: (name, self._name(job, service))

    def _name(self, job: Job, service: str) -> str:
        at = job.ctx.at.get(service)
        return service if at is None else str(at.name)

    def _of(self, job: Job, service: str) -> Known:
        name = self._name(job, service)
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = Known()
        return known

    def _now(self) -> float:
        return float(self._engine.env.now)

    def _view_opened(self, job: Job) -> None:
        self._of(job, services.SEARCH).view_s = self._now()

    def _band_known(self, job: Job) -> None:
        self._of(job, services.SEARCH).bands[_words(job)] = self._now() + BAND_TTL_S


def visible_s(indexed_s: float) -> float:
    """When a document that was written at `indexed_s` is found: at the next refresh of the index."""
    return (indexed_s // REFRESH_S + 1.0) * REFRESH_S


def _words(job: Job) -> Any:
    """What a search looks for: a word that many look for, or one that only this run's own tweets have."""
    ctx = job.ctx
    return ctx.target if ctx.index % OWN_WORDS else ("own", ctx.index)
