"""Jaeger 1.65 all-in-one: receives the traces of an observed lab and serves queries on them.

It stores traces in memory, bounded: the newest `MAX_TRACES`, about 120 MiB if each has nine spans (measured).
The Go module does not contain Jaeger's web page, so the lab has a page of its own (`jaeger_page.html`) that
draws one trace.
"""

from __future__ import annotations

from pathlib import Path

from system.platform import health
from system.platform.install import packages
from system.platform.servers.base import Context, Launch, base_env

MAX_TRACES = 2_000
OTLP_PORT = 4318
PAGE = Path(__file__).with_name("jaeger_page.html")


class Jaeger:
    """Jaeger, compiled once into the cache."""

    package = packages.JAEGER
    start_timeout_s = 30.0

    def launch(self, ctx: Context) -> Launch:
        program = ctx.programs.go(packages.JAEGER)
        ports = {"query.http-server": 16686, "query.grpc-server": 16685, "collector.otlp.http": OTLP_PORT,
                 "collector.otlp.grpc": 4317, "collector.grpc-server": 14250, "collector.http-server": 14268, "admin.http": 14269}
        page = ctx.config / "page" / "index.html"
        return Launch(
            argv=(program, "--log-level=warn", f"--memory.max-traces={MAX_TRACES}", f"--query.static-files={page.parent}",
                  *(f"--{name}.host-port={ctx.host}:{port}" for name, port in ports.items())),
            env={**base_env(ctx), "SPAN_STORAGE_TYPE": "memory", "GOMAXPROCS": str(ctx.node.running.processors or 2),
                 "GOMEMLIMIT": f"{ctx.node.memory_mib}MiB",
                 # Otherwise it traces itself, to whatever listens on 127.0.0.1:4317.
                 "OTEL_TRACES_SAMPLER": "always_off", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{ctx.host}:4317"},
            files={page: PAGE.read_text()},
            stop_timeout_s=3.0,
        )

    async def probe(self, ctx: Context) -> str:
        return await health.http(f"{ctx.host}:14269", "/")

    def version(self) -> str:
        return packages.JAEGER.version
