"""Run the tests by tier, and print duration, slowest five tests and skips of each.

`python tests/tiers.py [TIER ...]` (`make test TIER=unit`). The tiers that need a lab share one, in a separate
range (TWEETLAB_TEST_RANGE, default 77), so a running lab is not touched. docs/how-to/run-the-tests.md
describes the tiers. The last line is the total: `tests: N passed, N failed, N skipped`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.helpers import containers, requirements  # noqa: E402

SLOWEST = 5
LOG_END = 3_000  # characters of the output of a lab that does not come up


@dataclass(frozen=True)
class Tier:
    """`folders`: below tests/.

    `budget_s`: with warm caches on two cores. `workers`: processes of pytest-xdist, 0 for none.

    `by_file`: the tests of a file run in one process, in order. `lab`: the lab `small` must be up. `last`:
    run after that lab is down, because both do not fit on one machine. `marks`: pytest's -m.
    """

    name: str
    budget_s: int
    workers: int = 0
    by_file: bool = False
    lab: bool = False
    last: bool = False
    folders: tuple[str, ...] = ()
    marks: str = "not campaign"

    def paths(self) -> list[str]:
        return [f"tests/{folder}" for folder in self.folders or (self.name,)]


TIERS = (
    Tier("unit", 120, workers=2, folders=("unit", "architecture", "docs")),
    Tier("twin", 60, workers=2),
    Tier("load", 60, workers=2),
    Tier("notebooks", 30),
    Tier("contract", 60, workers=2, by_file=True, lab=True),
    Tier("integration", 240, workers=2, by_file=True, lab=True),
    Tier("clients", 60, lab=True),
    Tier("browser", 120, lab=True),
    Tier("acceptance", 240, lab=True),
    Tier("docker", 300, last=True, folders=("docker", "contract"), marks="docker"),  # skipped where no engine answers
    Tier("drills", 150, last=True),  # start a cluster: 7.5 GiB
)
CAMPAIGNS = (
    Tier("campaigns", 900, last=True, folders=("drills",), marks="campaign"),
    Tier("regions", 900, last=True, marks="campaign"),  # 52 processes: the measurements need an idle machine
    Tier("pairs", 3_600, last=True, marks="campaign"),
)
"""Tiers of `make drills`: labs that lose members, zones and regions; pairs of runs compared with fresh labs."""


@dataclass
class Result:
    """Outcome of a tier.

    `failures` and `skips`: test id -> reason; `times_s`: test id -> seconds, setup and teardown included.
    """

    tier: Tier
    took_s: float = 0.0
    passed: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    skips: dict[str, str] = field(default_factory=dict)
    times_s: dict[str, float] = field(default_factory=dict)


def main(names: list[str]) -> int:
    """Run the chosen tiers (all by default).

    Return 0 if every test passed and at least one ran, 64 for an unknown name.
    """
    known = {tier.name: tier for tier in (*TIERS, *CAMPAIGNS)}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"tier {unknown[0]!r} is unknown; use one of: {', '.join(known)}", file=sys.stderr)
        return 64
    chosen = [known[name] for name in names] or TIERS
    range_ = os.environ.get("TWEETLAB_TEST_RANGE", "77")
    env = os.environ | {"TWEETLAB_RANGE": range_, "PYTHONUNBUFFERED": "1", requirements.RUN: requirements.SET_UP}
    results, problems = [], []
    start_s = time.monotonic()
    if chosen != [known["unit"]] and _call("tweetlab.setup", "--tests", env=env, within_s=1_800):
        return 1
    with_lab = [tier for tier in chosen if tier.lab]
    results += [_run(tier, env) for tier in chosen if not tier.lab and not tier.last]
    if with_lab:
        lab_results, lab_problems = _with_lab(with_lab, env)
        results += lab_results
        problems += lab_problems
    results += [_run(tier, env) for tier in chosen if tier.last]
    print(summary(results))
    failed = sum(len(result.failures) for result in results) + len(problems)
    passed, skipped = sum(result.passed for result in results), sum(len(result.skips) for result in results)
    for problem in problems:
        print(problem)
    print(f"took {time.monotonic() - start_s:.0f} s")
    print(f"tests: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


def _with_lab(tiers: list[Tier], env: dict[str, str]) -> tuple[list[Result], list[str]]:
    """Run `tiers` against one lab with empty stores, and stop it afterwards.

    Return their results, and problems outside the tests.
    """
    try:
        _call("tweetlab", "down", "--purge", env=env, within_s=120)  # what an interrupted run left in this range
        with tempfile.TemporaryFile("w+") as log:
            code = _call("tweetlab", "up", env=env, within_s=300, log=log)
            log.seek(0)
            print(said := log.read(), flush=True)
        if code:
            return [], [f"the lab did not come up (exit code {code}):\n{said[-LOG_END:]}"]
        return [_run(tier, env | {requirements.RUN: requirements.LAB}) for tier in tiers], []
    finally:
        _call("tweetlab", "down", "--purge", env=env, within_s=120)


def _call(module: str, *words: str, env: dict[str, str], within_s: float, log: IO[str] | None = None) -> int:
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, cwd=ROOT, env=env, timeout=within_s, stdout=log, stderr=log).returncode


def _run(tier: Tier, env: dict[str, str]) -> Result:
    print(f"\n== {tier.name} ==", flush=True)
    if tier.marks == "docker" and (reason := containers.absent()):  # once, instead of for each test
        return Result(tier, skips={"every test on containers": reason})
    workers = ["-n", str(tier.workers), "--dist", "loadfile" if tier.by_file else "worksteal"] if tier.workers else []
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "results.xml"
        command = [sys.executable, "-m", "pytest", f"--junitxml={report}", "-m", tier.marks, *workers, *tier.paths()]
        code = subprocess.run(command, cwd=ROOT, env=env).returncode
        result = read(tier, report.read_text(encoding="utf-8") if report.exists() else "")
    result.took_s = time.monotonic() - start_s
    if code not in (0, 1, 5) or (code == 1 and not result.failures):
        result.failures[f"pytest of {tier.name}"] = f"exited with {code}"
    return result


def read(tier: Tier, junit: str) -> Result:
    """Return the counts, times and reasons in a JUnit report of pytest; an empty result for an empty text."""
    result = Result(tier)
    for case in ET.fromstring(junit).iter("testcase") if junit else ():
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        result.times_s[name] = result.times_s.get(name, 0.0) + float(case.get("time", 0))
        failed, skip = [*case.findall("failure"), *case.findall("error")], case.find("skipped")
        if failed:
            result.failures[name] = failed[0].get("message", "")
        elif skip is not None:
            result.skips[name] = skip.get("message", "")
        else:
            result.passed += 1
    return result


def summary(results: list[Result]) -> str:
    """Return the table of tiers, the slowest five tests of each, and each skip with its reason."""
    lines = ["", f"{'tier':<12} {'passed':>6} {'failed':>6} {'skipped':>7} {'took':>7} {'budget':>7}"]
    for result in results:
        mark = "" if result.took_s <= result.tier.budget_s else "  over budget"
        lines.append(f"{result.tier.name:<12} {result.passed:>6} {len(result.failures):>6} {len(result.skips):>7} "
                     f"{result.took_s:>5.0f} s {result.tier.budget_s:>5} s{mark}")
    for result in results:
        lines.append(f"\nslowest of {result.tier.name}:")
        lines += [f"  {took_s:6.1f} s  {name}" for name, took_s in _slowest(result)]
    skips = [(name, reason) for result in results for name, reason in result.skips.items()]
    if skips:
        lines += ["\nskipped:", *(f"  {name}: {reason}" for name, reason in skips)]
    failures = [(name, reason) for result in results for name, reason in result.failures.items()]
    if failures:
        lines += ["\nfailed:", *(f"  {name}: {reason.splitlines()[0] if reason else ''}" for name, reason in failures)]
    return "\n".join(lines) + "\n"


def _slowest(result: Result) -> list[tuple[str, float]]:
    return sorted(result.times_s.items(), key=lambda row: -row[1])[:SLOWEST]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
