"""The plugin: makes what a run needs when it begins, and shuts it down when it has ended."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from minions import events
from minions.hookspecs import RunningSystem, hookimpl
from minions_opentelemetry.metrics import Metrics
from minions_opentelemetry.settings import NONE, Settings, exporter_named
from minions_opentelemetry.traces import Traces

__all__ = ["OpenTelemetry"]

_NOTHING = Settings()


class OpenTelemetry:
    """Spans of units of work, and metrics. Without an exporter for either it does nothing.

    Attributes:
        settings: replaced by what ``minions.toml`` says.
    """

    def __init__(
        self,
        settings: Settings = _NOTHING,
        *,
        span_processor: Callable[[], SpanProcessor] | None = None,
        metric_reader: Callable[[], MetricReader] | None = None,
    ) -> None:
        """Args:
        settings: by default nothing is exported.
        span_processor: makes what takes the spans of a run, in the place of the exporter that `settings` names.
        metric_reader: makes what reads the metrics of a run, likewise.
        """
        self.settings = settings
        self._span_processor = span_processor
        self._metric_reader = metric_reader
        self._traces: Traces | None = None
        self._metrics: Metrics | None = None

    @property
    def unit_ratio(self) -> float:
        """Of how many units of work the runtime tells; asked once at each start."""
        return self.settings.ratio if self._span_processor is not None or self.settings.traces != NONE else 0.0

    @hookimpl
    def attached(self, system: RunningSystem) -> None:
        """Makes the providers of the run. What an exporter says against its environment is told as `PluginNotLoaded`."""
        self._traces = self._metrics = None
        resource = self._resource(system.name)
        if self._span_processor is not None:
            self._traces = Traces(system.name, resource, self._span_processor())
        elif self.settings.traces != NONE:
            exporter: Any = exporter_named("traces", self.settings.traces)
            self._traces = Traces(system.name, resource, BatchSpanProcessor(exporter))
        try:
            if self._metric_reader is not None:
                self._metrics = Metrics(system, resource, self._metric_reader())
            elif self.settings.metrics != NONE:
                interval_ms = self.settings.metrics_interval_s * 1_000
                exporter = exporter_named("metrics", self.settings.metrics)
                self._metrics = Metrics(system, resource, PeriodicExportingMetricReader(exporter, interval_ms))
        except BaseException:  # whatever it is, what was opened is closed; it is raised on, and told as the plugin's
            self._close()
            raise

    @hookimpl
    def unit_ended(self, event: events.UnitEnded) -> None:
        """One span."""
        if self._traces is not None:
            self._traces.add(event)

    @hookimpl
    def events_dropped(self, event: events.EventsDropped) -> None:
        """Spans that there will not be are counted."""
        if event.readers == "units" and self._metrics is not None:
            self._metrics.units_dropped = event.total

    @hookimpl(trylast=True)
    def system_stopped(self, event: events.SystemStopped) -> None:
        """Exports the rest, and ends everything that the SDK has started."""
        self._close()

    def _close(self) -> None:
        traces, self._traces = self._traces, None
        metrics, self._metrics = self._metrics, None
        try:
            if traces is not None:
                traces.close()
        finally:
            if metrics is not None:
                metrics.close()

    def _resource(self, system: str) -> Resource:
        name = self.settings.service_name or os.environ.get("OTEL_SERVICE_NAME") or system
        return Resource.create({"service.name": name})
