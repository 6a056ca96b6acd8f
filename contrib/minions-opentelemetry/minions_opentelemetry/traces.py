"""Units of work as spans. On one thread, that of the hooks."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from minions.events import UnitEnded

__all__ = ["Traces"]

_MOST_IDS = 100
"""A unit may send a hundred thousand messages; a span names the first of them."""
_SAMPLED = trace.TraceFlags(trace.TraceFlags.SAMPLED)


class Traces:
    """Makes a span of each unit, with the ids that the runtime has given it, so that children find their parents.

    A span begins and ends when its unit did, see `minions.events.UnitEnded`: it is made when the unit is over.
    """

    def __init__(self, system: str, resource: Resource, processor: SpanProcessor) -> None:
        """Args:
        system: its name.
        resource: what the spans are of.
        processor: what they are given to; it is shut down with this.
        """
        self._system = system
        self._ids = _GivenIds()
        # What is sampled was decided when the trace began; the SDK is not to decide it again for each span.
        self._provider = TracerProvider(
            resource=resource, sampler=ALWAYS_ON, id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("minions_opentelemetry")

    def add(self, unit: UnitEnded) -> None:
        """Makes the span of a unit."""
        self._ids.trace_id, self._ids.span_id = int(unit.trace_id, 16), int(unit.unit_id, 16)
        began_ns = round(unit.began_at * 1e9)
        span = self._tracer.start_span(
            f"{unit.component} {unit.where}",
            context=_parent(unit),
            kind=_kind(unit),
            attributes=self._attributes(unit),
            links=[trace.Link(_context(*link)) for link in unit.links],
            start_time=began_ns,
        )
        if unit.error:
            span.set_attribute("error.type", unit.error.partition(":")[0])
            span.set_status(trace.Status(trace.StatusCode.ERROR, unit.error))
        span.end(began_ns + round(unit.duration_s * 1e9))

    def close(self) -> None:
        """Hands over what is not exported yet, and ends. Blocks for as long as the processor does."""
        self._provider.shutdown()

    def _attributes(self, unit: UnitEnded) -> dict[str, str | int | tuple[str, ...]]:
        attributes: dict[str, str | int | tuple[str, ...]] = {
            "minions.system": self._system,
            "minions.component": unit.component,
            "minions.epoch": unit.epoch,
            "minions.where": unit.where,
        }
        if unit.received:
            attributes["messaging.system"] = "minions"
            attributes["messaging.message.id"] = unit.received[0]
            attributes["messaging.batch.message_count"] = len(unit.received)
        if unit.sent:
            attributes["minions.sent"] = unit.sent[:_MOST_IDS]
            attributes["minions.sent_count"] = len(unit.sent)
        return attributes


class _GivenIds(IdGenerator):
    """Answers the ids of the unit of which a span is being made."""

    trace_id = span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


def _kind(unit: UnitEnded) -> trace.SpanKind:
    if unit.received:
        return trace.SpanKind.CONSUMER
    return trace.SpanKind.PRODUCER if unit.sent else trace.SpanKind.INTERNAL


def _parent(unit: UnitEnded) -> Context:
    """An empty context where there is no parent: whatever happens to be current on this thread is none."""
    if not unit.parent_id:
        return Context()
    return trace.set_span_in_context(trace.NonRecordingSpan(_context(unit.trace_id, unit.parent_id)), Context())


def _context(trace_id: str, span_id: str) -> trace.SpanContext:
    return trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=_SAMPLED)
