"""Enables the export of traces in this process."""

from __future__ import annotations

from system.kernel.telemetry import tracing


def start(endpoint: str, ratio: float, instance: str) -> None:
    """Export a fraction `ratio` of all requests as spans to `endpoint` (http://host:4318).

    "" exports nothing.
    """
    if endpoint:
        # Imported only here: 9 MiB and 80 ms that a process without traces does not need.
        from system.kernel.telemetry.tracing_export import OpenTelemetry

        tracing.use(OpenTelemetry(endpoint, instance), ratio)
