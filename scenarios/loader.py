"""Parses a YAML file into a `Scenario`.

Every error names file, key, value, what is allowed and the nearest known word.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from scenarios import kinds, refusals, spec, table, units, vocabulary, warnings
from scenarios.kinds import Where
from system.kernel import numbers
from system.kernel.errors import WrongInput

CATALOG = Path(__file__).parent / "catalog"


def names() -> list[str]:
    """Return the names of the scenarios in the catalog, sorted."""
    return sorted(path.stem for path in CATALOG.glob("*.yaml"))


def load(name_or_path: str | Path, overrides: Sequence[str] = ()) -> spec.Scenario:
    """Return a scenario of the catalog or of a YAML file, with `key.path=value` overrides applied.

    `overrides` apply in order; each value is parsed as YAML: `workload.mix.home=70`, `faults=[]`,
    `workload.stages.0.rate=300/s`. Raises WrongInput with all problems, one per line.
    """
    raw, file, text = _raw(name_or_path, overrides)
    scenario = _read(raw, file, text)
    refuse(scenario, file)
    return scenario


@dataclasses.dataclass(frozen=True)
class Checked:
    """The result of `check`.

    `scenario`: None where the file is not a scenario. `errors`: why it is refused; empty where it may run.
    `warnings`: see `scenarios.warnings`.
    """

    scenario: spec.Scenario | None
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Checked:
    """Return all errors and warnings about a scenario, as `load` and `warnings` find them. Raises nothing."""
    scenario = None
    try:
        raw, file, text = _raw(name_or_path, overrides)
        scenario = _read(raw, file, text)
        refuse(scenario, file)
    except WrongInput as error:
        return Checked(scenario, problems_of(error), tuple(warnings.of(scenario)) if scenario else ())
    return Checked(scenario, (), tuple(warnings.of(scenario)))


def problems_of(error: WrongInput) -> tuple[str, ...]:
    """Return the problems of an error, one text each."""
    return error.problems if isinstance(error, kinds.Refused) else (error.detail,)


def _raw(name_or_path: str | Path, overrides: Sequence[str]) -> tuple[dict[str, Any], str, str]:
    """Return the parsed keys of a file with overrides applied, its path, and its text."""
    path = find(str(name_or_path))
    text = _text(path)
    raw = _parse(text, str(path))
    for override in overrides:
        _override(raw, override)
    return raw, str(path), text


def find(name_or_path: str) -> Path:
    """Return the path of a catalog name or a file. Raises WrongInput with the nearest name."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        if not path.is_file():
            raise WrongInput(f"The scenario file {name_or_path} does not exist; "
                             f"give a path, or a name of the catalog: {', '.join(names())}.")
        return path
    if name_or_path not in names():
        raise WrongInput(f"The scenario {name_or_path!r} is unknown; known are {', '.join(names())}."
                         f"{units.nearest(name_or_path, names())}")
    return CATALOG / f"{name_or_path}.yaml"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file, built from the same table as the loader."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Tweetlab scenario", **table.ROOT.schema()}


class _Strict(yaml.SafeLoader):
    """YAML that refuses duplicate keys; plain YAML silently keeps the last one.

    A number or date that Python cannot represent stays a string, so that the check of its key rejects it and
    names the key.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError):
            if not isinstance(node, yaml.ScalarNode):
                raise
            return node.value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict)) or key in keys:
                raise yaml.MarkedYAMLError(problem=f"the key `{key}` is a duplicate or not a word; write it once",
                                           problem_mark=key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WrongInput(f"{path}: byte {error.start} is not UTF-8 ({error.reason}); save the file as UTF-8.") from None


def _parse(text: str, file: str) -> dict[str, Any]:
    try:
        raw = yaml.load(text, _Strict)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise WrongInput(f"{file}{line}: not readable as YAML: {error.problem}.") from None
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:
        raise WrongInput(f"{file}: not readable as YAML: {error}.") from None
    if not isinstance(raw, dict):
        raise WrongInput(f"{file}: holds {type(raw).__name__}; it must be a block of keys such as `name: evening_peak`.")
    return raw


def _override(raw: dict[str, Any], text: str) -> None:
    """Set one value in the parsed file; missing blocks on the path are created."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise WrongInput(f"--set {text!r}: it must read key.path=value, such as workload.mix.home=70.")
    *parents, last = path.strip().split(".")
    place: Any = raw
    for step in parents:
        place = _step(place, step, text)
    value_read = _parse_value(value, text)
    if isinstance(place, list):
        place[_index(place, last, text)] = value_read
    elif isinstance(place, dict):
        place[last] = value_read
    else:
        raise WrongInput(f"--set {text!r}: `{'.'.join(parents)}` is {place!r}, not a block, so nothing can be set inside it.")


def _step(place: Any, step: str, text: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, step, text)]
    if isinstance(place, dict):
        return place.setdefault(step, {})
    raise WrongInput(f"--set {text!r}: there is no block to hold `{step}`.")


def _index(place: list[Any], step: str, text: str) -> int:
    try:
        return numbers.parse_int(step, 0, len(place) - 1)
    except ValueError:
        raise WrongInput(f"--set {text!r}: `{step}` must be an index from 0 to {len(place) - 1} of that "
                         "list.") from None


def _parse_value(value: str, text: str) -> Any:
    try:
        return yaml.load(value, _Strict)
    except (yaml.YAMLError, ValueError, LookupError, RecursionError):
        raise WrongInput(f"--set {text!r}: the value {value!r} is not readable as YAML; quote it.") from None


def _read(raw: dict[str, Any], file: str, text: str) -> spec.Scenario:
    scenario: spec.Scenario = table.ROOT.read(raw, Where(file))
    return dataclasses.replace(scenario, source=text)


def refuse(scenario: spec.Scenario, file: str) -> None:
    """Raise Refused where valid values contradict each other, or where no run could judge an objective."""
    where = Where(file)
    at_faults, at_objectives = where.key("faults"), where.key("objectives")
    checks: list[Callable[[], None]] = [
        lambda: _check_population(scenario, where), lambda: _check_times(scenario, where),
        lambda: refusals.check_workload(scenario, where),
        lambda: _check_gateways(scenario, where.key("policies")),
        *(functools.partial(_check_fault, fault, scenario, at_faults.key(index))
          for index, fault in enumerate(scenario.faults)),
    ]
    kinds.read_all(checks)
    kinds.read_all(functools.partial(refusals.check_objective, objective, scenario, at_objectives.key(index))
               for index, objective in enumerate(scenario.objectives))


def _check_population(scenario: spec.Scenario, where: Where) -> None:
    population, at = scenario.population, where.key("population").key("follows")
    if population.graph is not None:
        return
    for name, value in (("undirected", population.undirected), ("direction", population.direction)):
        if value is not None:
            where.key("population").key(name).refuse(
                value, "it says how the file of `population.graph` is read, but there is none; add `graph`, "
                "or leave this out.")
    if population.follows.max > population.users - 1:
        at.key("max").refuse(population.follows.max, f"it must be at most {population.users - 1}, one less than "
                                                     f"`population.users` ({population.users}).")
    if population.follows.mean > population.follows.max:
        at.key("mean").refuse(population.follows.mean,
                              f"it must be at most `population.follows.max` ({population.follows.max}).")


def _check_times(scenario: spec.Scenario, where: Where) -> None:
    load_s, warm_up_s = scenario.workload.load_s, scenario.measure.warm_up_s
    if warm_up_s >= load_s:
        where.key("measure").key("warm_up").refuse(
            units.format_duration(warm_up_s),
            f"it must be shorter than the load, which lasts {units.format_duration(load_s)}.")


def _check_gateways(scenario: spec.Scenario, where: Where) -> None:
    """Refuse more gateways at the start than `limits.max_gateways`, which share the rate limits.

    `autoscale.max` may be larger, since it applies to every service: the autoscaler caps gateways separately.
    """
    max_gateways, minimum = scenario.policies.limits.max_gateways, scenario.policies.autoscale.min
    gateways = sum(node.startswith("gateway-") for node in vocabulary.BLUEPRINTS[scenario.platform])
    if max_gateways < gateways:
        where.key("limits").key("max_gateways").refuse(
            max_gateways, f"it must be at least {gateways}, the gateways of {scenario.platform!r}: each admits a share of "
                          "the limits.")
    if scenario.policies.autoscale.max and minimum > max_gateways:
        where.key("autoscale").key("min").refuse(
            minimum, f"it must be at most {max_gateways}, the value of `policies.limits.max_gateways`; raise that too, "
                     "or lower this.")


def _check_fault(fault: spec.Fault, scenario: spec.Scenario, where: Where) -> None:
    kind = vocabulary.FAULT_KINDS[fault.kind]
    if fault.for_s is not None and not kind.held:
        where.key("for").refuse(units.format_duration(fault.for_s),
                                f"`{fault.kind}` is instant, without a duration. Leave `for` out.")
    if fault.for_s is None and kind.held:
        where.key("for").refuse(None, f"`{fault.kind}` is held: write how long, such as `for: 10 s`.")
    _check_strength(fault, kind, where)
    if kind.is_domain:
        _check_domain(fault, kind, scenario.platform, where.key("target"))
        return
    nodes = vocabulary.BLUEPRINTS[scenario.platform]
    targets = sorted(set(nodes) | {node.rsplit("-", 1)[0] for node in nodes})
    if fault.target not in targets:
        where.key("target").refuse(fault.target, f"`{scenario.platform}` has {', '.join(targets)}.",
                                   units.nearest(fault.target, targets))
    if kind.targets and fault.target.rsplit("-", 1)[0] not in kind.targets and fault.target not in kind.targets:
        where.key("target").refuse(fault.target, f"the target of `{fault.kind}` must be {', '.join(kind.targets)}.")


def _check_strength(fault: spec.Fault, kind: vocabulary.FaultKind, where: Where) -> None:
    parameters = {"delay": (fault.delay_s, units.format_duration), "loss": (fault.loss, units.format_share)}
    for name, (value, text_of) in parameters.items():
        low, high = vocabulary.STRENGTHS[name]
        if value is not None and name not in kind.takes:
            supporting = ", ".join(f"`{other}`" for other, row in vocabulary.FAULT_KINDS.items() if name in row.takes)
            where.key(name).refuse(text_of(value), f"`{fault.kind}` has no `{name}`; leave it out, or use {supporting}.")
        if value is not None and not low <= value <= high:
            where.key(name).refuse(text_of(value), f"it must be from {text_of(low)} to {text_of(high)}.")
    if kind.takes and not fault.strength:
        words = " or ".join(f"`{name}`" for name in kind.takes)
        where.refuse(fault.kind, f"it needs a strength: {words}, such as `delay: 80 ms`.")


def _check_domain(fault: spec.Fault, kind: vocabulary.FaultKind, platform: str, where: Where) -> None:
    domain_kind = kind.targets[-1]
    domains = vocabulary.FAILURE_DOMAINS[domain_kind]
    if platform not in domains:
        supporting = " or ".join(f"`platform: {name}`" for name in sorted(domains))
        where.refuse(fault.target, f"`{platform}` has no {domain_kind}s, so `{fault.kind}` has no target; write {supporting}.")
    if "lines" in kind.targets:
        targets, default = ("lines", *domains[platform]), "or `lines`: all WAN links."
    else:
        targets, default = (domain_kind, *domains[platform]), f"or `{domain_kind}`: the one of the cache's primary."
    if fault.target not in targets:
        where.refuse(fault.target, f"the target of `{fault.kind}` must be {', '.join(targets[1:])}, {default}",
                     units.nearest(fault.target, targets))
