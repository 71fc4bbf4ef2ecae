"""Prometheus: scrapes every process of the lab, stores four days, evaluates the rules of `alerting`.

It finds our processes through `targets.json`, which the supervisor updates: no restart when instances are
added or removed. HAProxy, MinIO and Alertmanager export their own metrics; our exporter exports those of the
other stores.
"""

from __future__ import annotations

from typing import Any

import yaml

from system.platform import alerting, health
from system.platform.install import packages
from system.platform.servers.base import Context, Launch, base_env
from system.platform.servers.haproxy import METRICS_PORT

OURS_EVERY_S = 2    # the shortest compressed burn window is 5 s
STORES_EVERY_S = 5
HAPROXY_KEPT = "haproxy_(frontend_(http_(responses|requests)_total|bytes_.*_total|current_sessions)" \
    "|backend_(http_responses_total|current_.*|.*_time_average_seconds|.*_warnings_total)" \
    "|server_(status|current_sessions|http_responses_total|check_failures_total))"
KEPT = "4d"         # the longest window of an alert is three days
KEPT_SIZE = "512MB"


class Prometheus:
    """Prometheus of the distribution."""

    package = packages.PROMETHEUS
    start_timeout_s = 30.0

    def launch(self, ctx: Context) -> Launch:
        config, rules = ctx.config / "prometheus.yml", ctx.config / "rules.yml"
        return Launch(
            argv=(ctx.programs.require("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={ctx.data}",
                  f"--storage.tsdb.retention.time={KEPT}", f"--storage.tsdb.retention.size={KEPT_SIZE}",
                  f"--web.listen-address={ctx.address}", "--log.level=warn"),
            env={**base_env(ctx), "GOGC": "40", "GOMAXPROCS": "1"},  # memory matters here, speed does not
            files={config: render(ctx), rules: alerting.rules_text()},
            folders=(ctx.data,),
            stop_timeout_s=5.0,
        )

    async def probe(self, ctx: Context) -> str:
        return await health.http(ctx.address, "/-/ready")

    def version(self) -> str:
        line = packages.version_line([packages.find("prometheus") or "prometheus", "--version"])
        words = line.split()
        return words[words.index("version") + 1] if "version" in words else ""


def render(ctx: Context) -> str:
    """Return the node's prometheus.yml."""
    jobs: list[dict[str, Any]] = [
        # The exporter's metrics of a store carry that store's `node` label, which the exporter's own must not
        # override.
        {"job_name": "tweetlab", "honor_labels": True, "file_sd_configs": [{"files": [str(ctx.paths.targets)]}],
         "scrape_interval": f"{OURS_EVERY_S}s", "scrape_timeout": f"{OURS_EVERY_S}s"},
        # Counted at the load balancer: a request that no gateway answers is an error too.
        {**_job(ctx, "haproxy", f"{OURS_EVERY_S}s", port=METRICS_PORT, params={"scope": ["frontend", "backend", "server"]}),
         # Of 1,900 series those that a rule or a dashboard reads, and similar ones.
         "metric_relabel_configs": [{"source_labels": ["__name__"], "regex": HAPROXY_KEPT, "action": "keep"}]},
        _job(ctx, "minio", f"{STORES_EVERY_S}s", path="/minio/v2/metrics/cluster"),
        _job(ctx, "alertmanager", f"{STORES_EVERY_S}s"),
        _job(ctx, "prometheus", f"{STORES_EVERY_S}s"),
        _job(ctx, "jaeger", f"{STORES_EVERY_S}s", port=14269),
    ]
    config = {
        "global": {"scrape_interval": f"{STORES_EVERY_S}s", "evaluation_interval": f"{OURS_EVERY_S}s",
                   "external_labels": {"lab": f"range-{ctx.plan.range}"}},
        "rule_files": [str(ctx.config / "rules.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": ctx.addresses("alertmanager")}]}]},
        "scrape_configs": [job for job in jobs if "file_sd_configs" in job or job["static_configs"]],
    }
    return yaml.safe_dump(config, sort_keys=False)


def _job(ctx: Context, kind: str, every: str, path: str = "/metrics", port: int | None = None,
         params: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """Return the scrape job of one kind of node; without targets if the blueprint has none."""
    rows = []
    for node in ctx.blueprint.of_kind(kind):
        host, own = ctx.plan.of(node.kind, node.instance, node.region).split(":")
        rows.append({"targets": [f"{host}:{port or own}"], "labels": {"node": node.name}})
    job: dict[str, Any] = {"job_name": kind, "scrape_interval": every, "scrape_timeout": every, "metrics_path": path,
                           "static_configs": rows}
    return {**job, "params": params} if params else job
