"""The reference pages, generated from the tables that the program itself uses. `make reference` writes them.

`PAGES`: file under docs/reference/ -> function that returns its Markdown. A test fails if a page differs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import typer

from tweetlab import home
from tweetlab.listing import doc_of

FOLDER = home.ROOT / "docs" / "reference"


def cli() -> str:
    """Return the page of all commands with their arguments and options."""
    from tweetlab import cli as command

    group: Any = typer.main.get_command(command.application())
    parts = ["# The command\n", inspect.cleandoc(command.__doc__ or "").split("\n\n", 1)[1] + "\n"]
    for name in sorted(command.COMMANDS):
        sub = group.commands[name]
        parts.append(f"## tweetlab {name}\n\n{inspect.cleandoc(sub.help or '')}\n")
        rows = [(_usage(p), _one_line(getattr(p, "help", "") or ""), _default(p)) for p in sub.params if p.name != "help"]
        if rows:
            table = "\n".join(f"| `{usage}` | {meaning} | {default} |" for usage, meaning, default in rows)
            parts.append(f"| | meaning | default |\n|---|---|---|\n{table}\n")
    return "\n".join(parts)


def _usage(param: Any) -> str:
    if getattr(param, "is_flag", None) is not None:
        value = "" if param.is_flag else f" {(param.metavar or 'value').upper()}"
        return ", ".join([*param.opts, *param.secondary_opts]) + value
    return str(param.name or "").upper()


def _default(param: Any) -> str:
    value = param.default() if callable(param.default) else param.default
    return "" if value in (None, False, "", [], ()) or "UNSET" in str(value).upper() else f"`{value}`"


def errors() -> str:
    """Return the page of all errors with HTTP status, exit code and whether the operation definitely did not happen."""
    from system.kernel import errors as tree

    kinds = [c for _, c in inspect.getmembers(tree, inspect.isclass) if issubclass(c, tree.LabError)]
    rows = [f"| `{c.__name__}` | {c.status} | {c.exit_code} | {'yes' if c.definite else 'not known'} "
            f"| {_one_line(c.__doc__ or '')} |" for c in sorted(kinds, key=lambda c: (c.status, c.__name__))]
    head = "# Errors\n\nEvery error names the value, the bound and the fix. HTTP bodies are `{title, detail, type, status}`.\n\n"
    table = "| error | HTTP | exit | definitely not done | meaning |\n|---|---|---|---|---|\n"
    return head + table + "\n".join(rows) + "\n"


def knobs() -> str:
    """Return the page of the `policies` block."""
    import dataclasses

    from scenarios import table
    from system.kernel import policies

    parts = ["# Policies\n\nThe `policies` block of a scenario; services and twin use the same values.\n"]
    for group in dataclasses.fields(policies.Policies):
        value = getattr(policies.Policies(), group.name)
        meaning = inspect.cleandoc(type(value).__doc__ or "")
        for field in dataclasses.fields(value):  # a scenario file writes the unit beside the value
            meaning = meaning.replace(f"`{field.name}`", f"`{field.name.removesuffix('_s')}`")
        parts.append(f"## {group.name}\n\n{meaning}\n")
        parts.append("| knob | default |\n|---|---|\n" + "\n".join(
            f"| `{name}` | {default} |" for name, default in table.policy_defaults(type(value)).items()) + "\n")
    return "\n".join(parts)


def faults() -> str:
    """Return the page of all faults."""
    from chaos.faults.table import FAULTS

    intro = ("The faults that a scenario may inject. A fault that does not recover within the time given here\n"
             "fails the run; one that lasts until the end of the load is not judged. The key\n"
             "`recovers_within` of a fault sets another time.")
    rows = {name: f"{doc_of(fault)}\n\n*Recovers within* {fault.recovers_within_s:g} s."
            for name, fault in sorted(FAULTS.items())}
    return _table_page("Faults", intro, rows)


def invariants() -> str:
    """Return the page of all invariants."""
    from chaos.invariants import INVARIANTS
    from scenarios import plan

    intro = ("Checked after every run. *pass*, *unknown* (never pass) or *fail*, with the operations that\n"
             "prove it; *not applicable* if the plan of the run contains nothing that it checks, which\n"
             "does not affect the verdict.")
    rows = {name: f"{doc_of(row)}\n\n*Applies to* {row.applies_to}"
            for name, row in sorted(INVARIANTS.items())}
    words = "\n".join(f"| {word} | {_one_line(meaning)} |" for word, meaning in plan.WORDS.items())
    return (_table_page("Invariants", intro, rows)
            + f"\n## Contents of a plan\n\n| a run plans | if its scenario has |\n|---|---|\n{words}\n")


def bench() -> str:
    """Return the page of the rows of `make bench`."""
    from bench.rows import ROWS

    rows = "\n".join(f"| `{r.name}` | {r.what} | {r.bar} {r.unit} |" for r in ROWS)
    intro = ("`make bench` measures these; `ROW=name make bench`, or `ROW=name,name`, measures some. "
             "Results: `runs/bench/latest.json`.\n\n")
    return f"# The bench\n\n{intro}| row | what | bar |\n|---|---|---|\n{rows}\n"


def scenarios() -> str:
    """Return the page of every key of a scenario file."""
    from scenarios import table, vocabulary
    from scenarios.kinds import Key

    blocks: dict[str, tuple[Key, ...]] = {
        "the file": table.SCENARIO, "population": table.POPULATION, "population.follows": table.FOLLOWS,
        "workload": table.WORKLOAD, "workload.stages": table.STAGE, "faults": table.FAULT, "measure": table.MEASURE,
    }
    parts = ["# Scenarios\n", "A scenario is one YAML file; `bin/tweetlab check FILE` validates it. The keys are\n"
             "published as a JSON Schema in [scenario.schema.json](scenario.schema.json); `policies` has\n"
             "[its own page](policies.md).\n"]
    for title, keys in blocks.items():
        rows = "\n".join(f"| `{key.name}` | {_one_line(key.help)} |" for key in keys)
        parts.append(f"## {title}\n\n| key | meaning |\n|---|---|\n{rows}\n")
    rows = "\n".join(f"| `{name}` | {_one_line(what)} |" for name, what in vocabulary.ROUTES.items())
    parts.append(f"## Routes of the mix\n\n| route | what its user does |\n|---|---|\n{rows}\n")
    return "\n".join((*parts, _quantities(), _checks()))


def _quantities() -> str:
    """Return the section about units and the numbers that a scenario may contain."""
    from scenarios import units

    tables = (("duration", "`20 s`, `5m`, `1h30m`, `1.5 h`", units.DURATIONS),
              ("rate", "`100/s`", units.RATES), ("share", "`10 %`", units.SHARES),
              ("CPU", "`0.2 core`", units.CORES), ("memory", "`512 MiB`", units.MEMORIES))
    known = {what: ", ".join(f"`{unit}`" for unit in table if unit != units.GREEK_US)
             for what, _, table in tables}
    rows = "\n".join(f"| {what} | {written} | {known[what]} |" for what, written, _ in tables)
    return (f"## Quantities\n\n| | written | units |\n|---|---|---|\n{rows}\n\n"
            "A unit may follow its number with or without a space. `m` and `min` are minutes, as in Go, k6\n"
            "and Prometheus. The parts of a duration are ordered from the largest unit to the smallest, each unit\n"
            "once. A number without its unit is refused, except 0. NaN and infinity are refused in every\n"
            "number. A stage of `0/s` is a pause: nothing is sent in it.\n")


def _checks() -> str:
    """Return the section about what `check` reports."""
    from scenarios import refusals, warnings

    refused = "\n".join(f"- {_one_line(line)}" for line in refusals.REFUSED)
    texts = (_one_line(inspect.getdoc(rule) or "").removeprefix("Yield ") for rule in warnings.WARNINGS)
    warned = "\n".join(f"- {text}" for text in texts)
    return ("## What `check` reports\n\n"
            "Refused (exit 64), besides every key and value that cannot be read:\n\n"
            f"{refused}\n\nWarnings (exit 0; 65 with `--strict`), also by `run`:\n\n{warned}\n\n"
            "`check --json` returns both as the lists `errors` and `warnings`.\n")


def schema() -> str:
    """Return the JSON Schema of scenario files."""
    import json

    from scenarios import loader

    return json.dumps(loader.schema(), indent=1, sort_keys=True)


def telemetry() -> str:
    """Return the page of every metric, objective and alert."""
    from system.kernel.telemetry.metric_table import METRICS
    from system.observe.dashboards import BOARDS
    from system.platform import alerting

    parts = ["# Telemetry\n", "Every process of the lab answers `GET /metrics` on its own address; with `--observe` Prometheus\n"
             "scrapes it ([how to observe a lab](../how-to/observe.md)). `make reference` writes dashboards for Grafana\n"
             "to `docs/reference/dashboards`: " + ", ".join(f"`{name}.json`" for name in BOARDS) + ".\n"]
    for board in dict.fromkeys(row.board for row in METRICS.values()):
        rows = "\n".join(f"| `{name}` | {row.kind} | {', '.join(row.labels)} | {row.unit} | {_one_line(row.help)} |"
                         for name, row in METRICS.items() if row.board == board)
        parts.append(f"## {board}\n\n| metric | kind | labels | unit | meaning |\n|---|---|---|---|---|\n{rows}\n")
    rows = "\n".join(f"| {slo.name} | {slo.objective:.1%} of {slo.what} |" for slo in alerting.SLOS)
    parts.append(f"## Objectives\n\n| name | objective |\n|---|---|\n{rows}\n")
    rows = "\n".join(
        f"| {alerting.window_text(real.long_s)} and {alerting.window_text(real.short_s)} "
        f"| {alerting.window_text(fast.long_s)} and {alerting.window_text(fast.short_s)} | {real.burn:g} | {real.severity} |"
        for real, fast in zip(alerting.WINDOWS, alerting.compressed()))
    full_from = alerting.window_text(alerting.FULL_FROM_S)
    parts.append(f"## Burn-rate alerts (`BudgetBurn`)\n\n| windows | divided by {alerting.COMPRESSION} | burn rate | severity |\n"
                 f"|---|---|---|---|\n{rows}\n")
    parts.append(f"Each requires {alerting.LEAST_BAD} bad events in its long window and {alerting.LEAST_REQUESTS} "
                 f"requests in its short one.\nWindows of {full_from} and longer do not fire before they are full; in "
                 "shorter ones the time\nbefore the lab was observed counts as good "
                 "([why](../how-to/observe.md#be-paged)).\n")
    rows = "\n".join(f"| {alert.name} | {alert.severity} | {alert.for_s} s | `{alert.expr.replace('|', chr(92) + '|')}` |"
                     for alert in alerting.ALERTS)
    parts.append(f"## Other alerts\n\n| alert | severity | after | expression |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def clients() -> str:
    """Return the page of the methods of two Twitter clients, and what the lab does with each."""
    from bench.clients import methods

    parts = ["# Twitter clients\n", (
        "What the lab does with each method of `tweepy.Client` and of `twitter-api-v2` (npm), both unpatched.\n\n"
        "- *served*: it returns what Twitter's API returns, from the data of the lab\n"
        "- *refused*: a 4xx status and a sentence that says why\n"
        "- *not tried*: streaming, OAuth 1.0a, and helpers that send no request of their own\n\n"
        "Each of the others is called by `tests/clients/test_client_methods.py` and by the bench row\n"
        "`client_methods_ignored`.\n")]
    tables = {"`tweepy.Client`": methods.TWEEPY, "`twitter-api-v2`, client `v2`": methods.NPM_V2,
              "`twitter-api-v2`, root client": methods.NPM_CLIENT}
    for title, table in tables.items():
        rows = "\n".join(f"| `{name}` | {method.outcome}{f': {method.why}' if method.why else ''} |"
                         for name, method in sorted(table.items()))
        parts.append(f"## {title}\n\n| method | |\n|---|---|\n{rows}\n")
    parts.append(f"## `twitter-api-v2`, client `v1`\n\n{methods.NPM_V1[0].upper()}{methods.NPM_V1[1:]}.\n")
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "bench.md": bench,
    "cli.md": cli,
    "clients.md": clients,
    "errors.md": errors,
    "faults.md": faults,
    "invariants.md": invariants,
    "policies.md": knobs,
    "scenario.schema.json": schema,
    "scenarios.md": scenarios,
    "telemetry.md": telemetry,
}


def compose_files() -> dict[str, str]:
    """Return the files of Docker Compose, name -> text; they are at the top of the checkout."""
    from system.platform.containers import compose

    return dict(compose.files())


def _table_page(title: str, intro: str, rows: dict[str, str]) -> str:
    return f"# {title}\n\n{intro}\n\n" + "\n".join(f"## {name}\n\n{text}\n" for name, text in rows.items())


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def main() -> None:
    """Write every page, the files of Docker Compose, and the dashboards, which git ignores."""
    from system.observe import dashboards

    boards = {f"dashboards/{name}.json": dashboards.text(name) for name in dashboards.BOARDS}
    (FOLDER / "dashboards").mkdir(parents=True, exist_ok=True)
    for name, text in {**{name: make() for name, make in PAGES.items()}, **boards}.items():
        (FOLDER / name).write_text(text.rstrip() + "\n", encoding="utf-8")
        print(f"docs/reference/{name}")
    for name, text in compose_files().items():
        (home.ROOT / name).write_text(text, encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
