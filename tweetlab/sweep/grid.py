"""The points of a sweep: from `KEY=a,b,c` and `KEY=lo..hi:n` to scenarios.

    --over rate=100,200,400                three rates, constant, without the scenario's faults
    --over rate=100..800:8                 eight rates, evenly spaced; 100..800:8:log evenly by ratio
    --over push_limit=0..2000 --sample 30  a Latin hypercube: 30 points, each setting covers its range evenly

Several `--over` make a grid: every combination. A key is any setting of a scenario file (`tweetlab.sweep.knobs`) or one of
SPECIAL. Every point is checked before the first one runs.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scenarios import loader, spec, units
from system.kernel.errors import WrongInput
from tweetlab.sweep import knobs

MOST_POINTS = 10_000
FAULT_WINDOWS = ("during fault", "after fault")  # of an objective
SPECIAL = {
    "rate": "one constant rate (operations per second) in place of the scenario's stages, without its faults",
    "load": "factor on all rates of the scenario; stages and faults stay",
    "cores": "cores of the machine, for the twin only",
    "cost.NODE": "factor on the CPU of a process, such as cost.timelines-1, for the twin only",
    "delay.HOP": "factor on the delay of a hop, such as delay.cassandra, for the twin only",
}
"""Keys of a sweep that are no key of a scenario file -> their meaning."""

_RANGE = re.compile(r"^(?P<low>[^,]+?)\.\.(?P<high>[^,:]+?)(?::(?P<count>\d+)(?::(?P<log>log))?)?$")
_QUANTITY = re.compile(r"^\s*([\d.]+(?:e[+-]?\d+)?)\s*(\D\S*)?\s*$")
_FACTOR = re.compile(r"^(cost|delay)\.([a-z][a-z0-9.-]*)$")


@dataclass(frozen=True)
class Axis:
    """One setting. `key`: as the user wrote it. `path`: full key, or a key of SPECIAL.

    `values`: as a scenario file writes them. `span`: (low, high, unit) of a range without a count, for a sample; else None.
    """

    key: str
    path: str
    values: tuple[str, ...] = ()
    span: tuple[float, float, str] | None = None


@dataclass(frozen=True)
class Point:
    """One point. `values`: key -> value as text. `machine`: twin-only keys -> number. `rate_per_s`: None without `rate`."""

    number: int
    values: Mapping[str, str]
    scenario: spec.Scenario
    machine: Mapping[str, float] = field(default_factory=dict)
    rate_per_s: float | None = None

    @property
    def text(self) -> str:
        """The point in words: `rate=100/s push_limit=50`."""
        return " ".join(f"{key}={value}" for key, value in self.values.items()) or "the scenario as it is"

    @property
    def group(self) -> str:
        """The point without its rate: points of one group differ in their rate only."""
        return " ".join(f"{key}={value}" for key, value in self.values.items() if key not in ("rate", "load"))


def axis(text: str) -> Axis:
    """Parse one `--over`. Raises WrongInput that names the value, what is allowed and the fix."""
    key, equals, values = text.partition("=")
    if not equals or not key.strip() or not values.strip():
        raise WrongInput(f"--over {text!r}: it must read KEY=a,b,c or KEY=lo..hi:n, such as rate=100..800:8.")
    return _axis(key.strip(), values.strip())


def axes(grid: Mapping[str, Any] | Sequence[str]) -> list[Axis]:
    """Return the settings of a grid: texts as on the command line, or key -> list of values or text (`"100..800:8"`).

    Raises WrongInput, also if a key occurs twice.
    """
    found = ([_axis(key, _listed(values)) for key, values in grid.items()] if isinstance(grid, Mapping)
             else [axis(text) for text in grid])
    for path, count in _counts(one.path for one in found).items():
        if count > 1:
            raise WrongInput(f"The key {path!r} is given {count} times; write all its values in one, such as {path}=a,b,c.")
    return found


def points(scenario: str | Path, over: Sequence[Axis], *, overrides: Sequence[str] = (), sample: int = 0, seed: int = 0,
           operations: int = 0, yes: bool = False) -> list[Point]:
    """Return every point, checked.

    `sample`: number of points of a Latin hypercube, 0 for the grid. `operations`: per point with `rate`, 0 for the
    duration of the scenario. `yes`: allow more than MOST_POINTS.

    Raises WrongInput for the first point that is no valid scenario.
    """
    combinations = _sampled(over, sample, seed) if sample else _grid(over)
    count = sample or math.prod(len(one.values) for one in over)
    if count > MOST_POINTS and not yes:
        raise WrongInput(f"The grid has {count:,} points; more than {MOST_POINTS:,} need --yes. To fix: fewer values, or a "
                         "Latin hypercube with --sample 200, which covers the same ranges.")
    scenarios: dict[tuple[str, ...], spec.Scenario] = {}
    return [_point(number, scenario, over, values, overrides, scenarios, operations)
            for number, values in enumerate(combinations)]


# ---- parsing ---------------------------------------------------------------------------------------------

def _axis(key: str, values: str) -> Axis:
    path = _path(key)
    if match := _RANGE.match(values):
        return _range(key, path, values, match)
    texts = tuple(_value(path, one) for one in _split(values))
    return Axis(key, path, texts)


def _path(key: str) -> str:
    if key in ("rate", "load", "cores") or _FACTOR.match(key):
        return key
    try:
        return knobs.resolve(key)
    except WrongInput as error:
        raise WrongInput(f"{error.detail} A sweep also knows {', '.join(SPECIAL)}.") from None


def _range(key: str, path: str, text: str, match: re.Match[str]) -> Axis:
    low, unit = _number(key, match["low"])
    high, other = _number(key, match["high"])
    if unit and other and unit != other:
        raise WrongInput(f"{key}={text}: the ends are in {unit} and {other}; write both in one unit.")
    unit = other or unit
    if not low < high:
        raise WrongInput(f"{key}={text}: the first end must be below the second, such as {key}=10..80:8.")
    if match["count"] is None:
        return Axis(key, path, (), (low, high, unit))
    count = int(match["count"])
    if not 2 <= count <= MOST_POINTS * 100:
        raise WrongInput(f"{key}={text}: the count is {count}; it must be from 2 to {MOST_POINTS * 100:,}.")
    if match["log"] and low <= 0:
        raise WrongInput(f"{key}={text}: an axis by ratio must start above 0, not at {low:g}; start higher, or leave out :log.")
    numbers = np.geomspace(low, high, count) if match["log"] else np.linspace(low, high, count)
    return Axis(key, path, _texts(path, numbers.tolist(), unit))


def _number(key: str, text: str) -> tuple[float, str]:
    match = _QUANTITY.match(text)
    try:
        return float(match[1]), (match[2] or "").strip()  # type: ignore[index]
    except (TypeError, ValueError):
        raise WrongInput(f"{key}: {text!r} is not a number; a range needs numbers, such as {key}=10..80:8.") from None


def _texts(path: str, numbers: Iterable[float], unit: str) -> tuple[str, ...]:
    whole = path not in SPECIAL and knobs.is_whole(path)
    texts = [f"{round(number)}" if whole else f"{number:.6g}" for number in numbers]
    return tuple(dict.fromkeys(_value(path, f"{text}{unit if unit.startswith('/') else f' {unit}' if unit else ''}")
                               for text in texts))


def _value(path: str, text: str) -> str:
    if path == "rate":
        return text if "/" in text else f"{text}/s"
    return text.strip() if path in ("load", "cores") or _FACTOR.match(path) else knobs.text_of(path, text)


def _split(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "[{(") - (char in "]})")
        if char == "," and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


def _listed(values: Any) -> str:
    if isinstance(values, str):
        return values
    if isinstance(values, Iterable):
        return ",".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
    return str(values)


def _counts(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts


# ---- combinations ----------------------------------------------------------------------------------------

def _grid(over: Sequence[Axis]) -> Iterable[tuple[str, ...]]:
    for one in over:
        if one.span:
            raise WrongInput(f"{one.key} is a range without a count; write {one.key}={one.span[0]:g}..{one.span[1]:g}:5, "
                             "or draw points with --sample N.")
    return itertools.product(*(one.values for one in over))


def _sampled(over: Sequence[Axis], count: int, seed: int) -> Iterable[tuple[str, ...]]:
    """Return a Latin hypercube: in each dimension one point in each of `count` equal parts of its range."""
    from scipy.stats import qmc

    if not over:
        return []
    unit = qmc.LatinHypercube(d=len(over), rng=np.random.default_rng([seed, 7])).random(count)
    columns = []
    for at, one in enumerate(over):
        if one.span:
            low, high, name = one.span
            columns.append([_texts(one.path, [low + share * (high - low)], name)[0] for share in unit[:, at]])
        else:
            columns.append([one.values[min(int(share * len(one.values)), len(one.values) - 1)] for share in unit[:, at]])
    return list(zip(*columns, strict=True))


def _point(number: int, scenario: str | Path, over: Sequence[Axis], values: tuple[str, ...], overrides: Sequence[str],
           scenarios: dict[tuple[str, ...], spec.Scenario], operations: int) -> Point:
    asked = dict(zip((one.path for one in over), values, strict=True))
    texts = tuple(f"{path}={value}" for path, value in asked.items() if _is_key(path))
    if texts not in scenarios:
        scenarios[texts] = loader.load(scenario, [*overrides, *texts])
    loaded = scenarios[texts]
    rate_per_s = rate_of(asked["rate"]) if "rate" in asked else None
    if rate_per_s is not None:
        warm_up_s = loaded.measure.warm_up_s
        loaded = steady(loaded, rate_per_s, warm_up_s + operations / rate_per_s if operations else loaded.workload.load_s)
    if "load" in asked:
        loaded = _scaled(loaded, _positive("load", asked["load"]))
    machine = {path: _positive(path, value) for path, value in asked.items() if path == "cores" or _FACTOR.match(path)}
    if machine.get("cores", 1.0) % 1.0:
        raise WrongInput(f"cores is {machine['cores']:g}; it must be a whole number, such as 4.")
    labels = {one.key: value for one, value in zip(over, values, strict=True)}
    return Point(number, labels, loaded, machine, rate_per_s)


def steady(scenario: spec.Scenario, rate_per_s: float, for_s: float) -> spec.Scenario:
    """Return the scenario at one constant rate, without its faults and without objectives about the time after them."""
    objectives = tuple(one for one in scenario.objectives if one.window not in FAULT_WINDOWS)
    return dataclasses.replace(scenario.at_rate(rate_per_s, for_s), objectives=objectives)


def _is_key(path: str) -> bool:
    return path not in ("rate", "load", "cores") and not _FACTOR.match(path)


def rate_of(value: object) -> float:
    """Return a rate per second, from a number or a text such as `100/s`. Raises WrongInput unless it is above 0."""
    text = _value("rate", str(value))
    try:
        rate = units.rate_per_s(text)
    except units.UnitError as problem:
        raise WrongInput(f"rate is {problem}") from None
    if not rate > 0:
        raise WrongInput(f"rate is {text}; it must be above 0, such as 100/s.")
    return rate


def _positive(key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise WrongInput(f"{key} is {text!r}; it must be a number above 0, such as 2.")
    return number


def _scaled(scenario: spec.Scenario, factor: float) -> spec.Scenario:
    stages = tuple(dataclasses.replace(stage, rate_from=stage.rate_from * factor, rate_to=stage.rate_to * factor)
                   for stage in scenario.workload.stages)
    return dataclasses.replace(scenario, workload=dataclasses.replace(scenario.workload, stages=stages))
