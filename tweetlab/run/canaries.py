"""The canary that stands while a load runs: a protected user's word, in reach of what the load asks for."""

from __future__ import annotations

import aiohttp
import numpy as np

from chaos.evidence import canaries
from scenarios import workload
from scenarios.world import seeded_tweets
from tweetlab.lab.session import Session

ASKERS = 3  # busiest readers of the load, who ask to follow: their home timelines are read most
WORDS = 5   # most used words of all texts, which searches ask for most


async def planted(lab: Session, tape: workload.Tape) -> str:
    """Plant it and return its word; "" where the lab did not let it be planted."""
    users, counts = np.unique(tape.user, return_counts=True)
    busiest = users[np.argsort(counts)[-ASKERS:]].tolist()
    try:
        return await canaries.plant(lab.base_url, lab.token, busiest, " ".join(seeded_tweets.vocabulary()[:WORDS]))
    except (aiohttp.ClientError, TimeoutError, KeyError):
        return ""
