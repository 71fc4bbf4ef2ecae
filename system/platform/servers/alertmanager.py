"""Alertmanager: groups and routes alerts to PagerDuty's Events v2 and to OpsGenie's alert API, both simulated
by our receiver.

A page goes to both, a ticket only to OpsGenie. Alertmanager uses its real clients: with another `url` and key
the same file pages a person.
"""

from __future__ import annotations

from typing import Any

import yaml

from system.platform import health
from system.platform.install import packages
from system.platform.servers.base import Context, Launch, base_env

PROGRAM = "prometheus-alertmanager"  # Debian's name; upstream calls it alertmanager
KEY = "0123456789abcdef0123456789abcdef"  # PagerDuty's keys have 32 characters; the receiver takes any
# The first alert of a group gives the summary; the alerts may have nothing in common, and an empty text is
# refused.
SUMMARY = "{{ (index .Alerts 0).Annotations.summary }}{{ if gt (len .Alerts) 1 }} ({{ len .Alerts }} alerts){{ end }}"
GROUP_BY = ["alertname", "severity", "slo", "set", "node", "store", "dependency", "group", "topic"]


class Alertmanager:
    """Alertmanager of the distribution."""

    package = packages.ALERTMANAGER
    start_timeout_s = 30.0

    def launch(self, ctx: Context) -> Launch:
        config = ctx.config / "alertmanager.yml"
        return Launch(
            argv=(ctx.programs.require(PROGRAM), f"--config.file={config}", f"--storage.path={ctx.data}",
                  f"--web.listen-address={ctx.address}", "--cluster.listen-address=", "--log.level=warn"),
            env={**base_env(ctx), "GOGC": "40", "GOMAXPROCS": "1"},
            files={config: render(ctx)},
            folders=(ctx.data,),
            stop_timeout_s=5.0,
        )

    async def probe(self, ctx: Context) -> str:
        return await health.http(ctx.address, "/-/ready")

    def version(self) -> str:
        line = packages.version_line([packages.find(PROGRAM) or PROGRAM, "--version"])
        words = line.split()
        return words[words.index("version") + 1] if "version" in words else ""


def render(ctx: Context) -> str:
    """Return the node's alertmanager.yml."""
    receiver = (ctx.addresses("receiver") or [ctx.address])[0]
    config: dict[str, Any] = {
        "global": {"resolve_timeout": "1m"},
        "route": {
            "receiver": "opsgenie", "group_by": GROUP_BY, "group_wait": "1s", "group_interval": "2s", "repeat_interval": "4h",
            "routes": [
                {"receiver": "pagerduty", "matchers": ['severity="page"'], "continue": True},
                {"receiver": "opsgenie", "matchers": ['severity=~"page|ticket"']},
            ],
        },
        "receivers": [
            {"name": "pagerduty", "pagerduty_configs": [{
                "routing_key": KEY, "url": f"http://{receiver}/v2/enqueue", "send_resolved": True,
                "severity": '{{ if eq .CommonLabels.severity "page" }}critical{{ else }}warning{{ end }}',
                "description": SUMMARY, "client": "tweetlab",
                "component": "{{ .CommonLabels.node }}", "class": "{{ .CommonLabels.alertname }}",
            }]},
            {"name": "opsgenie", "opsgenie_configs": [{
                "api_key": KEY, "api_url": f"http://{receiver}/opsgenie/", "send_resolved": True,
                "message": SUMMARY, "source": "tweetlab",
                "priority": '{{ if eq .CommonLabels.severity "page" }}P1{{ else }}P3{{ end }}',
                "tags": "{{ .CommonLabels.alertname }},{{ .CommonLabels.set }}",
            }]},
        ],
        # While a budget burns fast enough to page, the slower window of the same set adds no information.
        "inhibit_rules": [{"source_matchers": ['alertname="BudgetBurn"', 'severity="page"'],
                           "target_matchers": ['alertname="BudgetBurn"', 'severity="ticket"'], "equal": ["slo", "set"]}],
    }
    return yaml.safe_dump(config, sort_keys=False, width=140)
