"""`make bench`: measure every row (or only ROW=name, or ROW=name,name) and merge the results into `runs/bench/latest.json`."""

from __future__ import annotations

import datetime
import difflib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import rows
from bench.text import conformance
from system.kernel.errors import LabError
from tweetlab import home

NOT_RUN = "not run"  # begins the reason of a row whose optional input was not given
LATEST = home.RUNS / "bench" / "latest.json"


def main(words: list[str] | None = None) -> int:
    """Measure.

    Exit: 0 every measured row is within its bar, 1 one misses it, 3 one could not run, 64 ROW is unknown.
    """
    if words:  # the bench takes an hour, so a stray argument must not start it
        print(f"make bench does not accept {words[0]!r}; select one row with ROW=NAME.\n{__doc__}", file=sys.stderr)
        return 64
    chosen = _chosen(os.environ.get("ROW", ""))
    if chosen is None:
        return 64
    console = Console(stderr=True, highlight=False)
    code = 0
    for row in chosen:
        console.print(f"[bold]{row.name}[/bold]: {row.what} (bar {row.bar} {row.unit}) …")
        try:
            value = float(row.measure())
        except conformance.NotRun as reason:
            console.print(f"  not run: {reason}")
            failed(row, f"{NOT_RUN}: {reason}")
            continue
        except (LabError, AssertionError) as problem:
            console.print(f"[red]{row.name} could not run:[/red] {problem}")
            failed(row, str(problem))
            code = 3
            continue
        except Exception as problem:
            traceback.print_exc()
            failed(row, repr(problem))
            code = 3
            continue
        merge(row, value)
        console.print(f"  {value:,.4g} {row.unit}: {'holds' if row.holds(value) else '[red]misses[/red]'} {row.bar}")
        code = code or (0 if row.holds(value) else 1)
    show()
    return code


def _chosen(names: str) -> tuple[rows.Row, ...] | None:
    known = {row.name: row for row in rows.ROWS}
    if not names:
        return rows.ROWS
    for name in names.split(","):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            print(f"ROW is {name!r}; it must be one of {', '.join(known)}." + (f" Did you mean {near[0]}?" if near else ""),
                  file=sys.stderr)
            return None
    return tuple(known[name] for name in names.split(","))


def merge(row: rows.Row, value: float, path: Path = LATEST) -> None:
    """Write one row into the table and keep the others. Atomic."""
    _put({"name": row.name, "value": value, "unit": row.unit, "bar": row.bar, "holds": row.holds(value),
          "commit": home.commit(), "at": _now()}, path)


def failed(row: rows.Row, why: str, path: Path = LATEST) -> None:
    """Mark a row as not measured now: an older value remains and is not taken for a new one. Atomic."""
    never = {"name": row.name, "value": None, "unit": row.unit, "bar": row.bar, "holds": False, "commit": "", "at": ""}
    previous = next((r for r in _rows(path) if r["name"] == row.name), never)
    _put({**previous, "holds": None, "failed": {"why": why[:300], "commit": home.commit(), "at": _now()}}, path)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _rows(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["rows"]) if path.exists() else []


def _put(row: dict[str, Any], path: Path) -> None:
    kept = [*(r for r in _rows(path) if r["name"] != row["name"]), row]
    order = {r.name: n for n, r in enumerate(rows.ROWS)}
    kept.sort(key=lambda r: order.get(r["name"], len(order)))
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps({"rows": kept}, indent=2) + "\n")
    scratch.replace(path)


def show(path: Path = LATEST) -> None:
    """Print the table."""
    if not path.exists():
        return
    table = Table("row", "value", "unit", "bar", "holds", "commit", "measured", title="make bench")
    for r in _rows(path):
        holds = "yes" if r["holds"] else "[red]no[/red]"
        if "failed" in r:  # its value is older
            what = NOT_RUN if r["failed"]["why"].startswith(NOT_RUN) else "[red]could not run[/red]"
            holds = f"{what} {r['failed']['at'][5:16].replace('T', ' ')}"
        value = "–" if r["value"] is None else f"{r['value']:,.4g}"
        table.add_row(r["name"], value, r["unit"], r["bar"], holds, r["commit"], r["at"][5:16].replace("T", " "))
    Console(width=150).print(table)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
