"""Spans of the OpenTelemetry SDK, sent to a collector over OTLP/HTTP by a separate thread.

Imported only if TWEETLAB_OTLP is set. Every span that is started here is exported: sampling was decided
before. Spans that cannot be sent are dropped: at most 2,048 spans are queued, and a request never waits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import requests
from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from system.kernel.telemetry.tracing import Attributes, Kind

EVERY_MS = 1_000      # interval between exports
SEND_S = 2.0          # timeout of one export
KINDS = {"server": otel.SpanKind.SERVER, "client": otel.SpanKind.CLIENT, "producer": otel.SpanKind.PRODUCER,
         "consumer": otel.SpanKind.CONSUMER}
_log = logging.getLogger("tweetlab")
SAMPLED = otel.TraceFlags(otel.TraceFlags.SAMPLED)


class OpenTelemetry:
    """`tracing.Exporter` on the SDK. `instance`: name of this process, an attribute of every span."""

    def __init__(self, endpoint: str, instance: str, exporter: SpanExporter | None = None) -> None:
        # The SDK would log each failure; `_LogsOutages` logs the first.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        session = requests.Session()
        session.trust_env = False  # a configured proxy does not reach the loopback
        url = f"{endpoint.rstrip('/')}/v1/traces"
        exporter = exporter or OTLPSpanExporter(endpoint=url, timeout=SEND_S, session=session)
        self._processor = BatchSpanProcessor(_LogsOutages(exporter, url), schedule_delay_millis=EVERY_MS)
        self._instance = instance
        self._tracers: dict[str, otel.Tracer] = {}

    def start(self, service: str, name: str, parent: str, kind: Kind, attributes: Attributes,
              links: Sequence[str] = ()) -> RecordedSpan:
        above = otel.set_span_in_context(otel.NonRecordingSpan(_remote(parent))) if parent else Context()
        return RecordedSpan(self._tracer(service).start_span(
            name, above, KINDS[kind], dict(attributes), [otel.Link(_remote(link)) for link in links],
            record_exception=False, set_status_on_exception=False))

    def close(self) -> None:
        self._processor.force_flush(int(SEND_S * 1000))

    def _tracer(self, service: str) -> otel.Tracer:
        tracer = self._tracers.get(service)
        if tracer is None:
            resource = Resource({"service.name": service, "service.instance.id": self._instance})
            provider = TracerProvider(sampling.ALWAYS_ON, resource, shutdown_on_exit=False,
                                      span_limits=SpanLimits(max_attributes=32, max_attribute_length=512))
            provider.add_span_processor(self._processor)
            tracer = self._tracers[service] = provider.get_tracer("tweetlab")
        return tracer


class _LogsOutages(SpanExporter):
    """Logs once when the collector rejects spans, and once when it accepts them again."""

    def __init__(self, exporter: SpanExporter, url: str) -> None:
        self._exporter, self._url, self._accepted = exporter, url, True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        accepted = result is SpanExportResult.SUCCESS
        if accepted != self._accepted:
            self._accepted = accepted
            _log.log(logging.INFO if accepted else logging.WARNING, "%s %s spans", self._url,
                     "accepts" if accepted else "does not accept")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class RecordedSpan:
    """`tracing.Recorded` on a span of the SDK."""

    __slots__ = ("_span",)

    def __init__(self, span: otel.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    def set_attribute(self, name: str, value: str | int) -> None:
        self._span.set_attribute(name, value)

    def fail(self, kind: str, detail: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(otel.StatusCode.ERROR, detail or None)

    def end(self) -> None:
        self._span.end()


def _remote(traceparent: str) -> otel.SpanContext:
    """Return the span context of a traceparent of the lab."""
    return otel.SpanContext(int(traceparent[3:35], 16), int(traceparent[36:52], 16), True, SAMPLED)
