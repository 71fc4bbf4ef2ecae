"""Tweetlab from Python: predict, run, load and sweep scenarios, as pandas tables and matplotlib figures.

    from tweetlab import api

    run = api.simulate("first_run", rate=80, push_limit=50)      # the twin: Python alone, no server, no Java, no root
    run.latency()                                                # a DataFrame, with units in the names of its columns
    run.plot.cdf()                                               # a figure
    measured = api.load("reports/gallery/first_run")             # a run from disk
    run.compare(measured)
    found = api.sweep("reads", {"rate": "100..900:9"})           # all cores; found.knees(), found.bottleneck()
    api.run("first_run")                                         # the real system: needs its servers

The command line uses the same functions. This module and the classes `Run` and `Sweep` are stable: names and columns
change only with an entry in CHANGELOG.md.

A knob is a setting of a scenario file, by its full key with `__` for `.`, or by its last words where they are unambiguous
(`push_limit` for `policies__fanout__push_limit`); keys with a dot also work as `**{"mix.home": 90}`. Numbers without a unit
are in seconds, operations per second, or fractions. `rate` is one constant rate in place of the scenario's stages, without
its faults.
"""

from __future__ import annotations

from tweetlab.api.functions import load, run, scenario, simulate, sweep
from tweetlab.api.runs import Run
from tweetlab.api.sweeps import Sweep

__all__ = ["Run", "Sweep", "load", "run", "scenario", "simulate", "sweep"]
