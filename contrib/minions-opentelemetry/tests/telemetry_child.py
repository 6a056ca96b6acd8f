"""A child of the tests: a chain of which the last handler waits in the first run, until the process is killed.

Usage: telemetry_child.py FOLDER FILE, where each span is written to FILE, one line of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from minions import Component, Inbox, Outbox, System

sys.path.insert(0, str(Path(__file__).parent.parent))

from minions_opentelemetry import OpenTelemetry

exported = threading.Event()


class Writing(SpanExporter):
    def __init__(self, file: Path) -> None:
        self._file = file

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._file.open("a") as lines:
            for span in spans:
                assert span.context is not None
                parent = span.parent.span_id if span.parent is not None else None
                lines.write(json.dumps([span.name, span.context.trace_id, span.context.span_id, parent]) + "\n")
        if any(span.name == "source run" for span in spans):
            exported.set()
        return SpanExportResult.SUCCESS


class Source(Component):
    out = Outbox(int)
    count: int

    def run(self) -> None:
        for number in range(self.count):
            self.out.send(number)


class Sink(Component):
    inbox = Inbox(int)
    waits: bool

    @inbox.handler
    def take(self, number: int) -> None:
        if self.waits:
            exported.wait()
            self.commit()
            print("waits", flush=True)
            threading.Event().wait()


def main(folder: Path, file: Path) -> None:
    is_first = not file.exists()
    system = System("telemetry", folder=folder)
    source, sink = system.add(Source(count=is_first)), system.add(Sink(waits=is_first))
    system.connect(source.out, sink.inbox)
    system.plugins.configure(installed=False)
    system.plugins.register(OpenTelemetry(span_processor=lambda: SimpleSpanProcessor(Writing(file))))
    system.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
