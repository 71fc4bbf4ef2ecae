"""Run every test by tier against one lab, and print how long each tier took of its budget.

`python tests/tiers.py [TIER ...]`. The lab stands in a range of its own (TWEETLAB_RANGE, default 77), so it does not
touch one that is up. The last line sums up: `tests: N passed, N failed, N skipped`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TWEETLAB = [sys.executable, "-m", "tweetlab"]


@dataclass(frozen=True)
class Tier:
    """`budget_s`: seconds from warm caches on two cores. `needs_lab`: the lab `small` must be up.

    The tiers that need it come first: a cluster finds it gone, since both together do not fit one range.
    """

    name: str
    budget_s: int
    folders: tuple[str, ...]
    needs_lab: bool


TIERS = (
    Tier("unit, contract, docs", 240,
         ("tests/unit", "tests/architecture", "tests/docs", "tests/contract", "tests/strangers"), True),
    Tier("real stores", 360, ("tests/integration",), True),
    Tier("browser", 120, ("tests/browser",), True),
    Tier("acceptance", 300, ("tests/acceptance",), True),  # each of its runs resets the lab: 8 s
    Tier("twin, generator", 240, ("tests/twin", "tests/load"), False),
    Tier("notebooks", 300, ("tests/notebooks",), False),
    Tier("drills", 420, ("tests/drills",), False),  # bring a cluster up themselves: 7.5 GiB
)
COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")


def main(names: list[str]) -> int:
    """Run the chosen tiers (all by default). Returns 0 where every test passed and at least one ran."""
    unknown = [n for n in names if n not in {t.name.split(",")[0].split()[0] for t in TIERS}]
    if unknown:
        known = ", ".join(t.name.split(",")[0].split()[0] for t in TIERS)
        print(f"tier {unknown[0]!r} is unknown; known: {known}", file=sys.stderr)
        return 64
    chosen = [t for t in TIERS if not names or t.name.split(",")[0].split()[0] in names]
    env = os.environ | {"TWEETLAB_RANGE": os.environ.get("TWEETLAB_TEST_RANGE", "77"), "PYTHONUNBUFFERED": "1"}
    totals = dict.fromkeys(("passed", "failed", "skipped", "error"), 0)
    lines, broken = [], False
    for needs_lab in (True, False):
        tiers = [t for t in chosen if t.needs_lab is needs_lab]
        try:
            if needs_lab and tiers and subprocess.run([*TWEETLAB, "up"], cwd=ROOT, env=env, timeout=300).returncode:
                broken = True
                break
            standing = env | {"TWEETLAB_LAB_STANDS": "1"} if needs_lab else env  # see tests/lab_missing.py
            for tier in tiers:
                line, code = _run(tier, standing, totals)
                lines.append(line)
                broken |= code not in (0, 5)
        finally:
            if needs_lab and tiers:
                subprocess.run([*TWEETLAB, "down", "--purge"], cwd=ROOT, env=env, timeout=120)
    print("\ntier                     took  budget")
    print("\n".join(lines))
    failed = totals["failed"] + totals["error"] + (1 if broken and not totals["failed"] + totals["error"] else 0)
    print(f"tests: {totals['passed']} passed, {failed} failed, {totals['skipped']} skipped")
    return 1 if failed or not totals["passed"] else 0


def _run(tier: Tier, env: dict[str, str], totals: dict[str, int]) -> tuple[str, int]:
    began = time.monotonic()
    print(f"\n== {tier.name} ==", flush=True)
    folders = [f for f in tier.folders if (ROOT / f).is_dir()]
    command = [sys.executable, "-m", "pytest", "-rs", "--durations=5", "-m", "not campaign", *folders]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line if " in " in line and COUNT.search(line) else last
    code = process.wait()
    for count, what in COUNT.findall(last):
        totals[what] += int(count)
    took = time.monotonic() - began
    mark = "" if took <= tier.budget_s else "  over budget"
    return f"{tier.name:<22} {took:6.0f} s  {tier.budget_s:4d} s{mark}", code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
