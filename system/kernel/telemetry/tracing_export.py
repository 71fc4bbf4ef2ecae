"""Spans by the OpenTelemetry SDK, sent to a collector over OTLP/HTTP by a thread of their own.

Imported only where TWEETLAB_OTLP is set. Every span that is started here is exported: who is sampled was decided before.
What cannot be sent is dropped: at most 2,048 spans wait, and a request never does.
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

EVERY_MS = 1_000      # spans are sent that often
SEND_S = 2.0          # and given up after that long
KINDS = {"server": otel.SpanKind.SERVER, "client": otel.SpanKind.CLIENT, "producer": otel.SpanKind.PRODUCER,
         "consumer": otel.SpanKind.CONSUMER}
_log = logging.getLogger("tweetlab")
SAMPLED = otel.TraceFlags(otel.TraceFlags.SAMPLED)


class OpenTelemetry:
    """`tracing.Exporter` on the SDK. `instance`: name of this process, an attribute of every span."""

    def __init__(self, endpoint: str, instance: str, exporter: SpanExporter | None = None) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it would tell each failure; `_Telling` tells the first
        session = requests.Session()
        session.trust_env = False  # a proxy of the user is no way to the loopback
        url = f"{endpoint.rstrip('/')}/v1/traces"
        exporter = exporter or OTLPSpanExporter(endpoint=url, timeout=SEND_S, session=session)
        self._processor = BatchSpanProcessor(_Telling(exporter, url), schedule_delay_millis=EVERY_MS)
        self._instance = instance
        self._tracers: dict[str, otel.Tracer] = {}

    def start(self, service: str, name: str, parent: str, kind: Kind, attributes: Attributes,
              links: Sequence[str] = ()) -> RecordedSpan:
        above = otel.set_span_in_context(otel.NonRecordingSpan(_remote(parent))) if parent else Context()
        return RecordedSpan(self._tracer(service).start_span(
            name, above, KINDS[kind], dict(attributes), [otel.Link(_remote(each)) for each in links],
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


class _Telling(SpanExporter):
    """Says once when spans are not taken, and once when they are again."""

    def __init__(self, exporter: SpanExporter, url: str) -> None:
        self._exporter, self._url, self._taken = exporter, url, True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        taken = result is SpanExportResult.SUCCESS
        if taken != self._taken:
            self._taken = taken
            _log.log(logging.INFO if taken else logging.WARNING, "%s %s spans", self._url, "takes" if taken else "does not take")
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

    def tell(self, name: str, value: str | int) -> None:
        self._span.set_attribute(name, value)

    def fail(self, kind: str, detail: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(otel.StatusCode.ERROR, detail or None)

    def end(self) -> None:
        self._span.end()


def _remote(traceparent: str) -> otel.SpanContext:
    """Return the context that a traceparent of ours names."""
    return otel.SpanContext(int(traceparent[3:35], 16), int(traceparent[36:52], 16), True, SAMPLED)
