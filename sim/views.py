"""State that processes keep besides the caches.

These are protected users, a view of the index, the end of a band of matches, and the contents of the CDN
edge.

Each is a value with an age. The first request after its expiry reads it again, others reuse it; so at low
load every request pays for it, and under load only few do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sim import services
from sim.engine import Engine
from sim.jobs import Job
from sim.streams import NS
from system.kernel.policies import Policies

REFRESH_AT = 0.25   # of its TTL, when the view of protected users is refreshed: system/services/shared/ttl_value.py
VIEW_SHARED_S = 0.2  # searches that start within this time share a view of the index: system/stores/elasticsearch/index.py
BAND_TTL_S = 30.0   # maximum age of the known end of a band: system/services/search/handlers.py
OWN_WORDS = 2       # one search in this many is for a word of this run: tweetlab/load/generator/journeys.py
REFRESH_S = 1.0     # `refresh_interval` of the index: system/stores/elasticsearch/tweets.json
"""Sim may not import those modules; tests keep the numbers equal."""

FOREVER_AGO = float("-inf")


@dataclass
class ProcessViews:
    """The views of one process. `privacy_s`: start of the last read; `reading`: another read is in progress.

    `view_s`: when its view of the index was opened. `bands`: query -> expiry of its known end.
    """

    privacy_s: float = FOREVER_AGO
    reading: bool = False
    view_s: float = FOREVER_AGO
    bands: dict[Any, float] = field(default_factory=dict)


class Views:
    """The views of all processes of one replication."""

    def __init__(self, engine: Engine, policies: Policies) -> None:
        self._engine, self._ttl_s = engine, policies.cache.privacy_ttl_s
        self._known: dict[str, ProcessViews] = {}
        self._edge: set[int] = set()

    def bind(self) -> None:
        """Bind the names of views and edge."""
        bindings = self._engine.bindings
        bindings.predicates |= {
            "index_view_is_old": lambda job: self._now() >= self._of(job, services.SEARCH).view_s + VIEW_SHARED_S,
            "band_unknown": lambda job: self._now() >= self._of(job, services.SEARCH).bands.get(_words(job), FOREVER_AGO),
            "edge_cached": lambda job: job.ctx.index in self._edge,
        }
        bindings.effects |= {
            "index_view_opened": self._view_opened,
            "band_known": self._band_known,
            "edge_stores": lambda job: self._edge.add(job.ctx.index),
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

    def _of(self, job: Job, service: str) -> ProcessViews:
        name = self._name(job, service)
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = ProcessViews()
        return known

    def _now(self) -> float:
        return float(self._engine.env.now / NS)

    def _view_opened(self, job: Job) -> None:
        self._of(job, services.SEARCH).view_s = self._now()

    def _band_known(self, job: Job) -> None:
        self._of(job, services.SEARCH).bands[_words(job)] = self._now() + BAND_TTL_S


def visible_s(indexed_s: float) -> float:
    """Return when a document written at `indexed_s` becomes visible: at the next refresh of the index."""
    return (indexed_s // REFRESH_S + 1.0) * REFRESH_S


def _words(job: Job) -> Any:
    """Return the words of a search: a common word, or one that occurs only in this run's tweets."""
    ctx = job.ctx
    return ctx.target if ctx.index % OWN_WORDS else ("own", ctx.index)
