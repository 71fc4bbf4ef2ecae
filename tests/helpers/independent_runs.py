"""Pairs of short scenarios, drawn from a seed, and results that must not depend on the previous run.

The first of a pair leaves as much state behind as 8 s allow: pulled authors, deletes, likes, pictures,
protected users, a lost cache or a killed process at the end. The second has another population, other
policies and another state of the cache.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

Doc = dict[str, Any]

LOAD_S = 8
SHARE, LEAST = 0.2, 12
"""Path counts agree within a fifth, or within 12.

Which of two readers rebuilds a list, and when within 5 s a reader's copy of the modes is refreshed, depends
on milliseconds. State left behind by a run changes hundreds.
"""

SHAPES = ("pareto", "lognormal", "even")
MIXES = (
    {"home": 55, "post": 35, "delete": 4, "follow": 3, "unfollow": 3},
    {"home": 40, "post": 30, "reply": 5, "delete": 5, "follow": 5, "unfollow": 5, "like": 5, "media": 5},
    {"home": 45, "user_tweets": 10, "post": 25, "delete": 5, "follow": 5, "search": 5, "like": 5},
)
VICTIMS = ("fanout", "relay", "timelines", "tweets", "users")


def drawn(seed: int) -> tuple[Doc, Doc]:
    """Return two scenarios as YAML documents; the same for the same seed."""
    dice = random.Random(seed)
    first, second = _scenario(dice, f"before_{seed}"), _scenario(dice, f"after_{seed}")
    # Below the audience of the most followed authors, so that they are pulled.
    first["policies"] = {"fanout": {"push_limit": dice.choice((5, 20, 40))}}
    if dice.random() < 0.6:
        first["faults"] = [_fault(dice)]
    if dice.random() < 0.3:  # the same population: seeded data stay, and only what runs added is removed
        second["population"], second["seed"] = first["population"], first["seed"]
    return first, second


def _scenario(dice: random.Random, name: str) -> Doc:
    users = dice.randrange(150, 500)
    shape = dice.choice(SHAPES)
    mean = dice.randrange(6, 20)
    most = mean if shape == "even" else dice.randrange(60, 140)
    doc: Doc = {
        "name": name, "question": "Does it matter which run came before?", "platform": "small",
        "seed": dice.randrange(1, 10_000),
        "population": {
            "users": users, "history": f"{dice.randrange(2, 10)} tweets", "likes": dice.choice((0, 0.5)),
            "follows": {"shape": shape, "mean": mean, "max": most},
            "protected": dice.choice(("0 %", "20 %")), "cache": dice.choice(("warm", "cold"))},
        "workload": {
            "arrivals": "poisson", "stages": [{"for": f"{LOAD_S} s", "rate": f"{dice.randrange(30, 50)}/s"}],
            "mix": dice.choice(MIXES), "popularity": {"zipf": 0.9}},
        "objectives": ["errors < 50 %"], "measure": {"warm_up": "1 s"},
    }
    if dice.random() < 0.4:
        doc["policies"] = {"fanout": {"push_limit": dice.choice((20, 60))}}
    return doc


def _fault(dice: random.Random) -> Doc:
    if dice.random() < 0.5:
        return {"at": f"{LOAD_S - 2} s", "kind": "cache_loss", "target": "redis"}
    return {"at": f"{LOAD_S - 2} s", "kind": "kill", "target": dice.choice(VICTIMS)}


def written(doc: Doc, folder: Path) -> Path:
    """Write a scenario file (JSON is YAML) and return its path."""
    path = folder / f"{doc['name']}.yaml"
    path.write_text(json.dumps(doc))
    return path


def said_by(run: Doc) -> Doc:
    """Return the results of a run that must not depend on the previous run: invariants and counts of paths.

    The verdict is not compared: latencies and validity depend on the machine, which is shared.
    """
    return {"invariants": {row["name"]: row["verdict"] for row in run["invariants"]},
            "violations": [line for row in run["invariants"] for line in row["violations"]],
            "paths": run["summary"]["paths"]}


def differences(after: Doc, fresh: Doc) -> list[str]:
    """Return how a run after another differs from the same run on a fresh lab, one line per difference."""
    lines = [f"{name}: {after['invariants'].get(name)}, {verdict} on a fresh lab"
             for name, verdict in fresh["invariants"].items() if after["invariants"].get(name) != verdict]
    lines += [f"{len(after['violations'])} violations, first {line}" for line in after["violations"][:1]
              if not fresh["violations"]]
    for path, count in fresh["paths"].items():
        actual = after["paths"][path]
        if path != "retry" and abs(actual - count) > max(LEAST, SHARE * count):
            lines.append(f"path {path}: {actual}, {count} on a fresh lab")
    return lines
