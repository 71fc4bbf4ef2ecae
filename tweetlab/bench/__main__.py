"""`make bench`: measure every row (or ROW=name alone) and merge into `runs/bench/latest.json`."""

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

from system.kernel.errors import LabError
from tweetlab import home
from tweetlab.bench import rows

LATEST = home.RUNS / "bench" / "latest.json"


def main() -> int:
    """Measure; exit 0 where every measured row holds its bar, 1 where one misses, 3 where one could not run, 64 on a bad ROW."""
    chosen = _chosen(os.environ.get("ROW", ""))
    if chosen is None:
        return 64
    console = Console(stderr=True, highlight=False)
    code = 0
    for row in chosen:
        console.print(f"[bold]{row.name}[/bold]: {row.what} (bar {row.bar} {row.unit}) …")
        try:
            value = float(row.measure())
        except (LabError, AssertionError) as problem:
            console.print(f"[red]{row.name} could not run:[/red] {problem}")
            code = 3
            continue
        except Exception:
            traceback.print_exc()
            code = 3
            continue
        merge(row, value)
        console.print(f"  {value:,.4g} {row.unit}: {'holds' if row.holds(value) else '[red]misses[/red]'} {row.bar}")
        code = code or (0 if row.holds(value) else 1)
    show()
    return code


def _chosen(name: str) -> tuple[rows.Row, ...] | None:
    known = {row.name: row for row in rows.ROWS}
    if not name:
        return rows.ROWS
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        print(f"ROW is {name!r}; it must be one of {', '.join(known)}." + (f" Did you mean {near[0]}?" if near else ""),
              file=sys.stderr)
        return None
    return (known[name],)


def merge(row: rows.Row, value: float, path: Path = LATEST) -> None:
    """Write one row into the table, keeping the others. Atomic."""
    table: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": []}
    kept = [r for r in table["rows"] if r["name"] != row.name]
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    kept.append({"name": row.name, "value": value, "unit": row.unit, "bar": row.bar, "holds": row.holds(value),
                 "commit": home.commit(), "at": at})
    order = {r.name: n for n, r in enumerate(rows.ROWS)}
    kept.sort(key=lambda r: order.get(r["name"], len(order)))
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps({"rows": kept}, indent=2) + "\n")
    scratch.replace(path)


def show(path: Path = LATEST) -> None:
    """Print the table as it stands."""
    if not path.exists():
        return
    table = Table("row", "value", "unit", "bar", "holds", "commit", title="make bench")
    for r in json.loads(path.read_text())["rows"]:
        table.add_row(r["name"], f"{r['value']:,.4g}", r["unit"], r["bar"], "yes" if r["holds"] else "[red]no[/red]", r["commit"])
    Console(width=120).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
