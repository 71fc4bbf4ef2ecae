"""How often `compare` is wrong: A/A pairs that it calls changed, true changes that it detects.

Runs are simulated as an M/M/2 queue, first come first served, the hardest simple case: at utilization 0.8 a
slow second delays the next ones, so the requests of one run carry far less information than their number. A
run has the shape of a capacity run: 70 s at 160/s with 10 s of warm-up, five repeats a side, 10 ms of demand
on each of two servers. Each run has its own seed; nothing is shared between runs.

Power, as measured with this file: 7 of 500 A/A pairs are called changed; demands 1, 2, 3, 5 % apart are
detected in 2, 13, 53, 100 of 100 pairs. Near saturation a small change of demand is a large change of
response time (10 % raise the median by 75 %), and the noise is as large (five runs per side determine the
median to ±11 %), so an A/A pair at this load ends as `cannot tell`, not as `not changed`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from reports.stats import compare, effect_size

PAIRS = 100
REPEATS = 5
RATE_PER_S = 160.0
DEMAND_S = 0.010  # per operation; utilization = 160 * 0.010 / 2 = 0.8
WARM_UP_S = 10.0
LOAD_S = 70.0
SEED = 20_261_122
ROUTE = "parrot"


@dataclass(frozen=True)
class Outcome:
    """The number of pairs by result."""

    changed: int
    not_changed: int
    cannot_tell: int


@numba.njit(cache=True)
def _responses(arrivals_s: np.ndarray, demands_s: np.ndarray) -> np.ndarray:
    """Return the response times of a first-come-first-served queue with two servers: each takes the first free one."""
    first, second = 0.0, 0.0
    responses_s = np.empty(arrivals_s.size)
    for i in range(arrivals_s.size):
        if second < first:
            first, second = second, first
        first = max(first, arrivals_s[i]) + demands_s[i]
        responses_s[i] = first - arrivals_s[i]
    return responses_s


def simulate(seed: list[int], demand_s: float = DEMAND_S) -> tuple[effect_size.Floats, effect_size.Floats]:
    """Return one run: intended starts (s, after the warm-up) and response times (ms)."""
    dice = np.random.default_rng(seed)
    n = int(RATE_PER_S * LOAD_S * 1.1) + 100
    arrivals_s = np.cumsum(dice.exponential(1 / RATE_PER_S, n))
    response_s = _responses(arrivals_s, dice.exponential(demand_s, n))
    inside = (arrivals_s >= WARM_UP_S) & (arrivals_s < LOAD_S)
    return arrivals_s[inside], response_s[inside] * 1000


def _side(pair: int, side: int, demand_s: float) -> list[compare.Sample]:
    runs = [simulate([SEED, pair, side, repeat], demand_s) for repeat in range(REPEATS)]
    return [{ROUTE: compare.latencies(response_ms, due_s)} for due_s, response_ms in runs]


def pairs(ratio: float, n: int = PAIRS) -> Outcome:
    """Compare `n` pairs of sides with demands 1 : `ratio`."""
    answers = [
        compare.decide(_side(pair, 0, DEMAND_S), _side(pair, 1, DEMAND_S * ratio)).answer for pair in range(n)
    ]
    return Outcome(*(answers.count(word) for word in (compare.CHANGED, compare.NOT_CHANGED, compare.CANNOT_TELL)))


def compare_false_changes() -> float:
    """Return how many of 100 A/A pairs at utilization 0.8 are called changed; bar: at most 8."""
    return float(pairs(1.0).changed)


def compare_found_changes() -> float:
    """Return how many of 100 pairs whose demands are 10 % apart are called changed; bar: at least 90."""
    return float(pairs(1.1).changed)


def power(ratios: tuple[float, ...] = (1.01, 1.02, 1.03, 1.05, 1.1), n: int = PAIRS) -> dict[float, float]:
    """Return the share of pairs that are called changed, by ratio of demands."""
    return {ratio: pairs(ratio, n).changed / n for ratio in ratios}
