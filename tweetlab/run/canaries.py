"""The canary of a load: a word of a protected user, placed where the requests of the load could leak it."""

from __future__ import annotations

import aiohttp
import numpy as np

from chaos.evidence import canaries as evidence_canaries
from scenarios import workload
from scenarios.world import seeded_tweets
from tweetlab.lab.session import Session

ASKERS = 3  # most active readers of the load, which request to follow: their home timelines are read most
WORDS = 5   # most frequent words of all texts, which searches use most


async def plant(lab: Session, tape: workload.Tape) -> str:
    """Plant the canary and return its word; "" if the API refuses or does not answer."""
    users, counts = np.unique(tape.user, return_counts=True)
    busiest = users[np.argsort(counts)[-ASKERS:]].tolist()
    try:
        return await evidence_canaries.plant(lab.base_url, lab.token, busiest, " ".join(seeded_tweets.vocabulary()[:WORDS]))
    except (aiohttp.ClientError, TimeoutError, KeyError):
        return ""
