"""Grafana dashboards, generated from METRICS and from the objectives: every declared metric has a panel.

`BOARDS` is the table: file name -> title and panels. `make reference` writes them to
docs/reference/dashboards; Grafana imports the files unchanged and asks for its Prometheus once (the variable
`datasource`). Grafana itself is not part of the lab.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from system.kernel.telemetry.metric_table import METRICS, Metric
from system.platform import alerting

OVER = "1m"       # window of every rate; scrapes run every 2 or 5 s
WIDTH, HEIGHT, COLUMNS = 8, 8, 24  # of a panel, in Grafana's grid
UNITS = {"s": "s", "bytes": "bytes", "1": "short", "bool": "bool"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Query:
    """One line, or one family of lines, in a panel."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel. `unit`: a unit id of Grafana."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    help: str = ""


def panels_of(name: str, row: Metric) -> list[Panel]:
    """Return the panels of one metric: a rate, a value, or a rate beside quantiles."""
    title = name.removeprefix("tweetlab_").replace("_", " ")
    by = ", ".join(("job", *row.labels))
    legend = " ".join(f"{{{{{label}}}}}" for label in ("job", *row.labels))
    unit = UNITS.get(row.unit, "short")
    if row.kind == "counter":
        per_s = "percentunit" if row.unit == "s" else "short"  # seconds per second are a fraction
        return [Panel(f"{title.removesuffix(' total')} per second", per_s,
                      (Query(f"sum by ({by}) (rate({name}[{OVER}]))", legend),), row.help)]
    if row.kind == "gauge":
        return [Panel(title, unit, (Query(f"max by ({by}) ({name})", legend),), row.help)]
    buckets = f"sum by (le, {by}) (rate({name}_bucket[{OVER}]))"
    quantiles = tuple(Query(f"histogram_quantile({q}, {buckets})", f"p{100 * q:.0f} {legend}") for q in (0.5, 0.99))
    counts = (Query(f"sum by ({by}) (rate({name}_count[{OVER}]))", legend),)
    return [Panel(f"{title}, p50 and p99", unit, quantiles, row.help),
            Panel(f"{title}, count per second", "short", counts, row.help)]


def _of_board(board: str) -> list[Panel]:
    return [panel for name, row in METRICS.items() if row.board == board for panel in panels_of(name, row)]


def _window_fill() -> Panel:
    lengths_s = [window.long_s for window in (*alerting.compressed(), *alerting.WINDOWS)]
    queries = [Query(f"clamp_max({alerting.OBSERVED_S} / {long_s}, 1)", alerting.window_text(long_s))
               for long_s in lengths_s]
    held = alerting.window_text(alerting.FULL_FROM_S)
    return Panel("Filled fraction of each burn-rate window", "percentunit", tuple(queries),
                 f"Windows of {held} and longer do not fire before they are filled.")


def _objectives() -> list[Panel]:
    panels = [Panel("Firing alerts", "short",
                   (Query('sum by (alertname, slo, set, severity) (ALERTS{alertstate="firing"})',
                          "{{severity}} {{alertname}} {{slo}} {{set}}"),)),
             _window_fill()]
    for slo in alerting.SLOS:
        windows = [(w.short_s, w.burn) for w in (*alerting.compressed()[:2], *alerting.WINDOWS[:2])]
        burns = tuple(Query(f"{alerting.ratio_name(slo, seconds)} / {slo.budget:g}", alerting.window_text(seconds))
                      for seconds, _ in windows)
        note = (f"{slo.objective:.1%} of {slo.what}. 1 consumes the error budget in {alerting.PERIOD_DAYS} days; "
                "14.4 pages.")
        panels.append(Panel(f"{slo.name}: burn rate of its error budget", "short", burns, note))
    return panels


def _load_balancer() -> list[Panel]:
    def per_s(name: str, by: str) -> tuple[Query, ...]:
        return (Query(f"sum by ({by}) (rate({name}[{OVER}]))", " ".join(f"{{{{{label}}}}}" for label in by.split(", "))),)

    return [
        Panel("responses of each frontend per second", "short", per_s("haproxy_frontend_http_responses_total", "proxy, code")),
        Panel("responses of each service per second", "short", per_s("haproxy_backend_http_responses_total", "proxy, code")),
        Panel("responses of each instance per second", "short", per_s("haproxy_server_http_responses_total", "proxy, server")),
        Panel("queued in HAProxy", "short", (Query("max by (proxy) (haproxy_backend_current_queue)", "{{proxy}}"),)),
        Panel("instances by state", "short", (Query("sum by (proxy, state) (haproxy_server_status)", "{{proxy}} {{state}}"),)),
        Panel("bytes to clients per second", "Bps", per_s("haproxy_frontend_bytes_out_total", "proxy")),
    ]


def _stores() -> list[Panel]:
    minio = [
        Panel("MinIO: requests per second", "short",
              (Query(f"sum by (api) (rate(minio_s3_requests_total[{OVER}]))", "{{api}}"),)),
        Panel("MinIO: bytes per second", "Bps", (Query(f"sum (rate(minio_s3_traffic_received_bytes[{OVER}]))", "in"),
                                                 Query(f"sum (rate(minio_s3_traffic_sent_bytes[{OVER}]))", "out"))),
    ]
    return [*_of_board("stores"), *minio]


def _copies() -> list[Panel]:
    members = [Panel("members that answer", "short", (Query("sum by (store) (tweetlab_store_up)", "{{store}}"),)),
               Panel("zones in which every store answers", "short",
                     (Query('count (sum by (zone) (tweetlab_zone_stores{state="away"}) == 0)', "zones"),))]
    return [*members, *_of_board("copies")]


BOARDS: dict[str, tuple[str, Callable[[], list[Panel]]]] = {
    "objectives": ("Objectives and alerts", _objectives),
    "door": ("Public load balancer and mesh (HAProxy)", _load_balancer),
    "requests": ("Requests: rate, errors, duration", lambda: _of_board("requests")),
    "workers": ("Workers: lag, batches, effects", lambda: _of_board("workers")),
    "stores": ("Stores", _stores),
    "copies": ("Copies, primaries, zones and regions", _copies),
    "processes": ("Processes", lambda: _of_board("processes")),
}


def dashboard(name: str) -> dict[str, Any]:
    """Return one dashboard as Grafana imports it."""
    title, panels = BOARDS[name]
    return {
        "uid": f"tweetlab-{name}", "title": f"Tweetlab: {title}", "tags": ["tweetlab"], "schemaVersion": 39, "version": 1,
        "editable": True, "refresh": "5s", "time": {"from": "now-15m", "to": "now"}, "timezone": "utc",
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]},
        "panels": [_panel_json(n, panel) for n, panel in enumerate(panels())],
    }


def text(name: str) -> str:
    """Return one dashboard as the text of its file."""
    return json.dumps(dashboard(name), indent=1)


def _panel_json(n: int, panel: Panel) -> dict[str, Any]:
    across = COLUMNS // WIDTH
    targets = [{"refId": chr(ord("A") + k), "expr": query.expr, "legendFormat": query.legend, "datasource": DATASOURCE}
               for k, query in enumerate(panel.queries)]
    return {
        "id": n + 1, "type": "timeseries", "title": panel.title, "description": panel.help, "datasource": DATASOURCE,
        "gridPos": {"x": n % across * WIDTH, "y": n // across * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"showPoints": "never"}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": targets,
    }
