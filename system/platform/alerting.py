"""Objectives, recording rules and alerts, as data: `SLOS` and `ALERTS` are the tables, `rules_text` is
Prometheus' file.

Burn rates follow the SRE workbook (chapter 5): an alert needs a long window, so that it is significant, and a
short one, so that it resolves when the errors end. An error budget that burns at rate 1 is used up exactly at
the end of its period (30 days).

    14.4 over 1 h and 5 min    2 % of the budget in an hour            page
     6   over 6 h and 30 min   5 % of the budget in six hours          page
     1   over 3 d and 6 h      10 % of the budget in three days        ticket

The same alerts exist twice: with these windows, and with all of them divided by `COMPRESSION`, so that a lab
that runs for a few minutes sees one fire and resolve. The label `set` says which it is; `factor` is the
divisor.

A burn rate needs evidence, and a lab that has just started has little:

- at least LEAST_BAD bad events in the long window. The count behind a rate is random: with 10 events the true
  rate is, with 97.5 % confidence, at least 0.48 of the measured one (Poisson), so a measured 14.4 is really
  above 6, the next lower burn rate that pages. It delays no page of a real outage: at 20 requests/s a full
  window of a minute needs 18 bad events to reach 14.4;
- a full window. Until it is full, the time before OBSERVED_SINCE counts as good, so that it fires no
  earlier than a full one, and the alert's summary says how much the window holds. Windows of FULL_FROM_S
  and longer do not fire before they are full.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

COMPRESSION = 60
LEAST_REQUESTS = 10  # in the short window; with fewer, one error makes a rate that means nothing
LEAST_BAD = 10       # in the long window; why 10: see above
FULL_FROM_S = 3_600  # windows of hours are not meaningful after minutes; a drill's first alerts have shorter windows
OBSERVED_SINCE = "lab:observed_since:timestamp_seconds"
OBSERVED_S = f"(time() - {OBSERVED_SINCE})"
CARRIED = "1h"       # a gap in monitoring longer than this starts the windows again
PERIOD_DAYS = 30
LONG_S = 300  # longer windows are computed every 30 s


@dataclass(frozen=True)
class Slo:
    """An objective.

    `objective`: fraction that must be good. `bad`, `total`: counts in PromQL, `$w` is the window.
    """

    name: str
    what: str
    objective: float
    bad: str
    total: str

    @property
    def budget(self) -> float:
        """Return the fraction that may be bad."""
        return round(1 - self.objective, 6)


@dataclass(frozen=True)
class Window:
    """One pair of windows, in seconds. `burn`: how many times faster than allowed."""

    long_s: int
    short_s: int
    burn: float
    severity: str


@dataclass(frozen=True)
class Alert:
    """One alert that is not a burn rate.

    `for_s`: seconds `expr` must hold; `labels` are added to those of `expr`.
    """

    name: str
    expr: str
    severity: str
    summary: str
    for_s: int = 0
    labels: dict[str, str] = field(default_factory=dict)


def _slow(route: str, le: str) -> str:
    series = f'tweetlab_request_seconds_%s{{job="gateway",route="{route}",status="2xx"'
    return f'(sum(increase({series % "count"}}}[$w])) - sum(increase({series % "bucket"},le="{le}"}}[$w])))'


def _answered(route: str) -> str:
    return f'sum(increase(tweetlab_request_seconds_count{{job="gateway",route="{route}",status="2xx"}}[$w]))'


SLOS: tuple[Slo, ...] = (
    Slo("availability", "requests at the public load balancer that are answered without a 5xx", 0.999,
        'sum(increase(haproxy_backend_http_responses_total{proxy="gateway",code="5xx"}[$w]))',
        'sum(increase(haproxy_backend_http_responses_total{proxy="gateway"}[$w]))'),
    Slo("home_latency", "home timelines that are answered within 250 ms", 0.99, _slow("home", "0.25"), _answered("home")),
    Slo("post_latency", "posts that are acknowledged within 500 ms", 0.99, _slow("post", "0.5"), _answered("post")),
    Slo("delivery", "tweets that are in all their followers' timelines within 5 s", 0.99,
        'sum(increase(tweetlab_delivery_seconds_count[$w])) - sum(increase(tweetlab_delivery_seconds_bucket{le="5.0"}[$w]))',
        "sum(increase(tweetlab_delivery_seconds_count[$w]))"),
)

WINDOWS: tuple[Window, ...] = (
    Window(3_600, 300, 14.4, "page"),
    Window(6 * 3_600, 1_800, 6, "page"),
    Window(3 * 86_400, 6 * 3_600, 1, "ticket"),
)

ALERTS: tuple[Alert, ...] = (
    # An instance that was stopped on command does not answer, nor does one that starts, and a removed one is
    # scraped for up to 10 s more: tweetlab_node_expected is 0 for these. Nodes without that series always
    # count as expected, as all nodes do without the exporter.
    Alert("InstanceDown", 'up{job!~"exporter|receiver"} == 0 unless on (node) tweetlab_node_expected == 0', "page",
          "{{ $labels.node }} does not answer", 4),
    # These start together with Prometheus, and users do not notice their loss.
    Alert("ObserverDown", 'up{job=~"exporter|receiver"} == 0', "ticket", "{{ $labels.node }} does not answer", 20),
    # A node that was stopped on command and started again has a new start time, which is no reason to alert.
    Alert("InstanceRestarted", "changes(tweetlab_process_started_seconds[1m]) > 0 unless on (node) "
          "min_over_time(tweetlab_node_expected[1m]) == 0", "ticket", "{{ $labels.node }} was started again"),
    Alert("TaskRestarted", "increase(tweetlab_task_restarts_total[1m]) > 0", "ticket",
          "the task {{ $labels.task }} of {{ $labels.node }} exited and was restarted; see its log"),
    Alert("StoreDown", "tweetlab_store_up == 0", "page", "{{ $labels.store }} does not answer the exporter", 4),
    Alert("ZoneLost", 'sum by (zone) (tweetlab_zone_stores{state="up"}) == 0', "page",
          "no store of zone {{ $labels.zone }} answers", 4),
    Alert("LineCut", "tweetlab_wan_cut == 1", "page", "no packet passes from {{ $labels.source }} to {{ $labels.target }}", 4),
    Alert("CopiesMissing", "max by (store) (tweetlab_copies_missing) > 0", "ticket",
          "{{ $labels.store }} has {{ $value }} under-replicated parts", 10),
    Alert("PrimaryChanged", "increase(tweetlab_primary_changes_total[1m]) > 0", "ticket",
          "{{ $labels.store }} has another primary"),
    Alert("ConsumerLag", "sum by (group, topic) (tweetlab_group_lag_records) > 1000", "ticket",
          "group {{ $labels.group }} is {{ $value }} records behind on {{ $labels.topic }}", 10),
    Alert("BreakerOpen", "increase(tweetlab_breaker_opened_total[30s]) > 0 or tweetlab_breaker_state == 2", "page",
          "{{ $labels.node }} does not call {{ $labels.dependency }}: its circuit breaker is open"),
    Alert("DeadLetters", 'sum by (group, topic) (increase(tweetlab_consumed_total{result="dead"}[5m])) > 0', "ticket",
          "group {{ $labels.group }} moved records of {{ $labels.topic }} to the dead-letter topic"),
    Alert("Shedding", "sum by (node) (rate(tweetlab_shed_total[30s])) > 1", "ticket", "{{ $labels.node }} sheds load", 5),
    Alert("LoopBlocked", "histogram_quantile(0.9, sum by (le, node) (rate(tweetlab_loop_lag_seconds_bucket[30s]))) > 0.25",
          "ticket", "the event loop of {{ $labels.node }} is blocked for a quarter of a second", 10),
)


def window_text(seconds: float) -> str:
    """Return a window in Prometheus' notation: `5m`, `72m`, `5s`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{max(1, round(seconds))}s"


def compressed() -> tuple[Window, ...]:
    """Return the windows divided by COMPRESSION."""
    return tuple(Window(w.long_s // COMPRESSION, w.short_s // COMPRESSION, w.burn, w.severity) for w in WINDOWS)


def ratio_name(slo: Slo, seconds: int) -> str:
    """Return the name of the recording rule for an objective's error ratio over a window."""
    return f"slo:{slo.name}_errors:ratio_rate{window_text(seconds)}"


def rules() -> dict[str, Any]:
    """Return Prometheus' rule file as plain values."""
    lengths = sorted({seconds for w in (*WINDOWS, *compressed()) for seconds in (w.long_s, w.short_s)})
    short, long = [s for s in lengths if s <= LONG_S], [s for s in lengths if s > LONG_S]
    return {"groups": [
        {"name": "observed", "rules": [
            {"record": OBSERVED_SINCE,
             "expr": f"last_over_time({OBSERVED_SINCE}[{CARRIED}]) or vector(time())"}]},
        {"name": "slo-ratios", "rules": [rule for slo in SLOS for rule in _recorded(slo, short)]},
        # An hour's rate does not change within seconds, and three days of samples are expensive to read.
        {"name": "slo-ratios-long", "interval": "30s", "rules": [rule for slo in SLOS for rule in _recorded(slo, long)]},
        {"name": "slo-burn", "rules": [
            _burn(slo, window, label, factor)
            for label, factor, windows in (("real", 1, WINDOWS), ("compressed", COMPRESSION, compressed()))
            for slo in SLOS for window in windows]},
        {"name": "causes", "rules": [_plain(alert) for alert in ALERTS]},
    ]}


def rules_text() -> str:
    """Return Prometheus' rule file."""
    why = (f"# BudgetBurn needs {LEAST_BAD} bad events in its long window: with so many the true rate is at\n"
           "# least 0.48 of the measured one (97.5 %, Poisson). Until a window is full, the time before\n"
           f"# the lab was observed counts as good; one of {window_text(FULL_FROM_S)} or longer does not fire.\n")
    return why + yaml.safe_dump(rules(), sort_keys=False, width=140)


def not_full(observed_s: float) -> tuple[Window, ...]:
    """Return the burn-rate windows of both sets that are longer than the lab was observed, shortest first."""
    longer = [window for window in (*WINDOWS, *compressed()) if window.long_s > observed_s]
    return tuple(sorted(longer, key=lambda window: window.long_s))


def _recorded(slo: Slo, lengths: list[int]) -> list[dict[str, str]]:
    rules = []
    for seconds in lengths:
        w = window_text(seconds)
        rules.append({"record": ratio_name(slo, seconds),
                     "expr": f"({slo.bad.replace('$w', w)}) / ({slo.total.replace('$w', w)} > 0)"})
        rules.append({"record": f"slo:{slo.name}_requests:increase{w}", "expr": slo.total.replace("$w", w)})
    return rules


def _burn(slo: Slo, window: Window, label: str, factor: int) -> dict[str, Any]:
    bound = f"{window.burn:g} * {slo.budget:g}"
    long, short = ratio_name(slo, window.long_s), ratio_name(slo, window.short_s)
    evidence = [f"slo:{slo.name}_requests:increase{window_text(window.short_s)} >= {LEAST_REQUESTS}",
                f"{long} * slo:{slo.name}_requests:increase{window_text(window.long_s)} >= {LEAST_BAD}"]
    if window.long_s >= FULL_FROM_S:
        evidence.append(f"{OBSERVED_S} >= {window.long_s}")
    else:
        long = f"{long} * clamp_max({OBSERVED_S} / {window.long_s}, 1)"
    partial = (f'{{{{ with query "{OBSERVED_S} < {window.long_s}" }}}}; the window holds only '
               "{{ . | first | value | humanizeDuration }} so far{{ end }}")
    pair = f"{window_text(window.long_s)}/{window_text(window.short_s)}"
    return {
        "alert": "BudgetBurn",
        "expr": " and ".join([f"{long} > {bound}", f"{short} > {bound}", *evidence]),
        "labels": {"severity": window.severity, "slo": slo.name, "set": label, "factor": str(factor), "windows": pair},
        "annotations": {"summary": f"{slo.name}: budget burns more than {window.burn:g} times too fast over {pair}"
                                   + (f" (real windows divided by {factor})" if factor > 1 else "")
                                   + (partial if window.long_s < FULL_FROM_S else "")},
    }


def _plain(alert: Alert) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": alert.name, "expr": alert.expr}
    if alert.for_s:
        rule["for"] = f"{alert.for_s}s"
    return {**rule, "labels": {"severity": alert.severity, **alert.labels}, "annotations": {"summary": alert.summary}}
