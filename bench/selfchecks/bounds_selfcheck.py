"""How many share bounds are judged wrong: random bounds and counts, compared with integer arithmetic.

Half of the draws lie exactly on their bound, where binary rounding decides if floats are compared: with `1 -
ok / n` on one side and `1 * 0.01` on the other, 674 of these 10,000 draws get a wrong verdict (1,125 if all
are `errors`). The text of an objective is parsed like a scenario's line, and its counts are judged like those
of a run.
"""

from __future__ import annotations

import numpy as np

from reports.judge import objectives, verdict
from scenarios import bounds
from scenarios import objectives as written

DRAWS = 10_000
SEED = 20_261_129
MOST = 5_000  # operations in one window
METRICS = ("errors", "goodput", "refused")


def exact_bounds_wrong(draws: int = DRAWS, seed: int = SEED) -> int:
    """Return how many of `draws` share objectives get a verdict that contradicts integer arithmetic."""
    dice = np.random.default_rng(seed)
    return sum(_is_wrong(dice) for _ in range(draws))


def _is_wrong(dice: np.random.Generator) -> bool:
    op, metric = str(dice.choice(list(bounds.OPERATORS))), str(dice.choice(METRICS))
    if dice.random() < 0.5:
        n, digits = int(dice.choice([10, 40, 100, 125, 400, 1000, 2000, 5000])), 3
        part = int(dice.integers(0, n + 1))
        scaled = part * 10 ** (digits + 2) // n  # every n above divides 10^5, so this is the share itself
    else:
        n, digits = int(dice.integers(objectives.MIN_OPERATIONS, MOST)), int(dice.integers(0, 5))
        part, scaled = int(dice.integers(0, n + 1)), int(dice.integers(0, 10 ** (digits + 2) + 1))
    expected = bounds.OPERATORS[op](part * 10 ** (digits + 2), scaled * n)
    percent, rest = divmod(scaled, 10**digits)
    text = f"{metric} {op} {percent}{f'.{rest:0{digits}d}' if digits else ''} % whole"
    bound = written.parse(text, ()).bound
    ok, refused = {"errors": (n - part, 0), "goodput": (part, 0), "refused": (0, part)}[metric]
    result = objectives.share(metric, n, ok, refused).judged(op, bound)
    return result != (verdict.PASS if expected else verdict.FAIL)
