"""Closed forms of queueing theory against which the stations are tested, and sample sizes for a tolerance.

Rates are per second, times in seconds; `servers` is a whole number of equal servers, `service_s` a mean.
Every function raises `WrongInput` if its formula does not hold (an unstable queue has no mean).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from system.kernel.errors import WrongInput

Floats = NDArray[np.float64]


def _utilisation(rate_per_s: float, service_s: float, servers: int = 1) -> float:
    rho = rate_per_s * service_s / servers
    if not 0.0 <= rho < 1.0:
        raise WrongInput(
            f"Utilisation is {rho:.3f}; it must be below 1. Lower the rate ({rate_per_s:g}/s) or the service time "
            f"({service_s:g} s), or add servers ({servers})."
        )
    return rho


def erlang_b(offered: float, servers: int) -> float:
    """Return the probability that all `servers` are busy in a loss system (M/G/c/c) under `offered` erlang."""
    blocking = 1.0
    for count in range(1, servers + 1):
        blocking = offered * blocking / (count + offered * blocking)
    return blocking


def erlang_c(offered: float, servers: int) -> float:
    """Return the probability that an arrival must wait in M/M/c under `offered` erlang."""
    rho = _utilisation(offered, 1.0, servers)
    blocking = erlang_b(offered, servers)
    return blocking / (1.0 - rho * (1.0 - blocking))


def mmc_response_s(rate_per_s: float, service_s: float, servers: int = 1) -> float:
    """Return the mean response time of M/M/c, first come first served. The mean of M/M/c-PS is the same."""
    rho = _utilisation(rate_per_s, service_s, servers)
    return service_s + erlang_c(rate_per_s * service_s, servers) * service_s / (servers * (1.0 - rho))


def mm1_quantile_s(rate_per_s: float, service_s: float, q: float) -> float:
    """Return the q-quantile of the response time of M/M/1 FCFS, which is exponential."""
    rho = _utilisation(rate_per_s, service_s)
    return -math.log(1.0 - q) * service_s / (1.0 - rho)


def mg1_response_s(rate_per_s: float, service_s: float, cv_squared: float) -> float:
    """Return the mean response time of M/G/1 FCFS (Pollaczek-Khinchine); `cv_squared`: of the service time."""
    rho = _utilisation(rate_per_s, service_s)
    return service_s + rho * service_s * (1.0 + cv_squared) / (2.0 * (1.0 - rho))


def mm1k(rate_per_s: float, service_s: float, room: int) -> tuple[float, float]:
    """Return (probability that an arrival is lost, mean response of the rest) of M/M/1/K with `room` as K."""
    rho = rate_per_s * service_s
    weights = [rho**n for n in range(room + 1)]
    total = sum(weights)
    lost = weights[room] / total
    inside = sum(n * weight for n, weight in enumerate(weights)) / total
    return lost, inside / (rate_per_s * (1.0 - lost))


def machine_repair(users: int, think_s: float, service_s: float, servers: int) -> tuple[float, float]:
    """Return (throughput per second, mean response) of `users` that think, then need one of `servers`.

    Exact, from the birth-death chain. The same holds for processor sharing on `servers` cores.
    """
    weights = [1.0]
    for n in range(1, users + 1):
        birth = (users - n + 1) / think_s
        death = min(n, servers) / service_s
        weights.append(weights[-1] * birth / death)
    total = sum(weights)
    throughput = sum(weight * min(n, servers) / service_s for n, weight in enumerate(weights)) / total
    inside = sum(n * weight for n, weight in enumerate(weights)) / total
    return throughput, inside / throughput


def tandem_response_s(rate_per_s: float, services_s: Sequence[float]) -> float:
    """Return the mean end-to-end response of M/M/1 queues in a row (Jackson: each as if alone)."""
    return sum(mmc_response_s(rate_per_s, service_s) for service_s in services_s)


def kth_of_n_exponential_s(mean_s: float, k: int, n: int) -> float:
    """Return the mean of the k-th smallest of n independent exponential times: a quorum without queues."""
    return mean_s * sum(1.0 / (n - i) for i in range(k))


def fork_join2_response_s(rate_per_s: float, service_s: float) -> float:
    """Return the mean response of a 2-way fork-join of M/M/1 queues (Flatto and Hahn's exact result)."""
    rho = _utilisation(rate_per_s, service_s)
    return (12.0 - rho) / 8.0 * service_s / (1.0 - rho)


# ---- statistics of samples -------------------------------------------------------------------------------

def batch_standard_error(values: Floats, batches: int = 30) -> float:
    """Return the standard error of the mean of autocorrelated `values`, shape (n,), from means of long batches."""
    size = len(values) // batches
    if size < 1:
        raise WrongInput(f"{len(values)} values are too few for {batches} batches; give at least {batches}.")
    means = values[: size * batches].reshape(batches, size).mean(axis=1)
    return float(means.std(ddof=1) / math.sqrt(batches))


def mser5_cut(values: Floats) -> int:
    """Return how many of `values`, shape (n,), to cut as warm-up: MSER-5, the cut with the least standard error.

    A cut beyond half of the values is reported as n // 2: the series is not stationary and should be longer.
    """
    groups = len(values) // 5
    if groups < 4:
        return 0
    means = values[: groups * 5].reshape(groups, 5).mean(axis=1)
    tail_sum = np.cumsum(means[::-1])[::-1]
    tail_squares = np.cumsum(means[::-1] ** 2)[::-1]
    left = np.arange(groups, 0, -1, dtype=np.float64)
    spread = tail_squares - tail_sum**2 / left
    score = (spread / left**2)[: groups // 2 + 1]
    return min(int(np.argmin(score)) * 5, len(values) // 2)
