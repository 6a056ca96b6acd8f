"""Traces and metrics of a system through the SDK of OpenTelemetry.

Hooks are called on one thread of the system's own; the metrics are read on that of the reader, which the SDK has. Providers are
made for each run and shut down at its end, so nothing global is set and two systems in one process do not meet.
"""

from __future__ import annotations

from minions_opentelemetry.metrics import Metrics
from minions_opentelemetry.plugin import OpenTelemetry
from minions_opentelemetry.settings import Settings
from minions_opentelemetry.traces import Traces

__all__ = ["Metrics", "OpenTelemetry", "Settings", "Traces"]
__version__ = "0.1.0"
