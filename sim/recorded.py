"""Restores a scenario from a record, without its original file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scenarios import spec
from system.kernel import policies
from system.kernel.errors import WrongInput


def scenario_of(document: Mapping[str, Any]) -> spec.Scenario:
    """Return the scenario of a record, without objectives.

    Raises WrongInput if the record does not contain it.
    """
    try:
        return _scenario(document["scenario"]["resolved"])
    except (KeyError, TypeError) as problem:
        raise WrongInput(
            f"The record of {document.get('run_id', 'this run')} does not contain its scenario ({problem!r}); run it again."
        ) from None


def _scenario(values: Mapping[str, Any]) -> spec.Scenario:
    people, load = values["population"], values["workload"]
    graph = people.get("graph")
    return spec.Scenario(
        name=values["name"],
        question=values["question"],
        expect=values["expect"],
        seed=int(values["seed"]),
        platform=values["platform"],
        population=spec.Population(
            int(people["users"]),
            spec.Follows(**people["follows"]),
            int(people["history_tweets"]),
            Path(graph) if graph else None,
            str(people["cache"]),
            undirected=people.get("undirected"),  # absent in records from before graph files had them
            direction=people.get("direction"),
        ),
        workload=spec.Workload(
            load["arrivals"], tuple(spec.Stage(**stage) for stage in load["stages"]), dict(load["mix"]), float(load["zipf"])
        ),
        policies=policies.from_dict(values["policies"]),
        faults=tuple(spec.Fault(**fault) for fault in values["faults"]),
        objectives=(),
        measure=spec.Measure(**values["measure"]),
        cpu_quota=values.get("cpu_quota"),  # None in records from before there were quotas
    )
