"""The lists of `tweetlab list`: one function per argument. `WORDS` is the table."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from system.kernel.errors import WrongInput
from tweetlab import home

Rows = list[dict[str, Any]]


def scenarios() -> Rows:
    """Return every scenario of the catalog with its question."""
    from scenarios import loader

    loaded = [loader.load(name) for name in loader.names()]
    return [{"name": scenario.name, "question": scenario.question} for scenario in loaded]


def faults() -> Rows:
    """Return every fault that a scenario may name."""
    from chaos.faults.table import FAULTS

    return [{"name": name, "what": doc_of(fault).split("\n")[0]} for name, fault in sorted(FAULTS.items())]


def invariants() -> Rows:
    """Return every invariant that is checked after a run."""
    from chaos.invariants import INVARIANTS

    return [{"name": name, "what": doc_of(invariant).split("\n")[0]} for name, invariant in INVARIANTS.items()]


def routes() -> Rows:
    """Return every route that a mix may name."""
    from scenarios import vocabulary

    return [{"name": name, "what": str(what)} for name, what in vocabulary.ROUTES.items()]


def runs() -> Rows:
    """Return every run, the newest first."""
    from reports import record

    rows = []
    for path in reversed(record.all_runs(home.RUNS)):
        try:
            document = record.read(path).document
        except WrongInput as problem:  # one broken record must not hide the others
            rows.append({"run": str(path.relative_to(home.RUNS)), "verdict": "-", "kind": "-", "question": problem.detail})
            continue
        rows.append({"run": document["run_id"], "verdict": document["verdict"], "kind": document["kind"],
                      "question": document["scenario"].get("question", "")})
    return rows


def doc_of(thing: object) -> str:
    """Return the description of a table's entry: its `what`, its `docs`, or its docstring; "" if it has none."""
    own = inspect.getdoc(thing if callable(thing) else type(thing))
    for source in (getattr(thing, "what", ""), getattr(thing, "docs", ""), own):
        if isinstance(source, str) and source.strip():
            return inspect.cleandoc(source)
    return ""


WORDS: dict[str, Callable[[], Rows]] = {
    "faults": faults, "invariants": invariants, "routes": routes, "runs": runs, "scenarios": scenarios,
}


def rows(what: str) -> Rows:
    """Return the rows of the list `what`. Raises WrongInput that names the known lists."""
    if what not in WORDS:
        near = difflib.get_close_matches(what, WORDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise WrongInput(f"There is no list of {what!r}; it must be one of {', '.join(WORDS)}.{hint}")
    return WORDS[what]()
