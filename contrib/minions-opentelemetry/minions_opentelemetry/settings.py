"""What ``[plugins.opentelemetry]`` in ``minions.toml`` may say, and the exporters that are named there. No thread."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import attrs

from minions import ConfigurationError

__all__ = ["NONE", "Settings", "exporter_named"]

NONE = "none"
_GROUPS = {"traces": "opentelemetry_traces_exporter", "metrics": "opentelemetry_metrics_exporter"}
"""Where packages of OpenTelemetry announce their exporters."""


@attrs.frozen(kw_only=True)
class Settings:
    """Where traces and metrics go, and how much of them.

    Attributes:
        traces: the exporter of spans, by the name that its package has announced, such as "otlp_proto_http" or "console".
        metrics: the exporter of metrics, likewise.
        ratio: of how many of the units of work that no message has led to there are spans, from 0 to 1; and of all that follows
            from these.
        metrics_interval_s: after how many seconds metrics are exported again.
        service_name: the name of the service; by default that of the system, or ``OTEL_SERVICE_NAME`` where that is set.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    traces: str = NONE
    metrics: str = NONE
    ratio: float = 1.0
    metrics_interval_s: float = 60.0
    service_name: str = ""

    def __attrs_post_init__(self) -> None:
        problems = []
        for kind, group in _GROUPS.items():
            name = getattr(self, kind)
            if name != NONE and _found(kind, name) is None:
                known = ", ".join(sorted({NONE, *(point.name for point in entry_points(group=group))}))
                problems.append(
                    f'{kind} = "{name}": there is no exporter of that name; install its package, or write one of: {known}'
                )
        if not 0 <= self.ratio <= 1:
            problems.append(f"ratio = {self.ratio!r}: must be from 0 to 1")
        if not 0 < self.metrics_interval_s < float("inf"):
            problems.append(f"metrics_interval_s = {self.metrics_interval_s!r}: must be above 0 (seconds)")
        if problems:
            raise ConfigurationError("Settings", problems)


def exporter_named(kind: str, name: str) -> object:
    """A new exporter, set up by its own environment variables (``OTEL_EXPORTER_...``).

    Args:
        kind: "traces" or "metrics".
        name: that is known, see `Settings`.
    """
    point = _found(kind, name)
    assert point is not None
    exporter: object = point.load()()
    return exporter


def _found(kind: str, name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=_GROUPS[kind], name=name)), None)
