"""The HTTP endpoint at which Prometheus scrapes.

Threads: one accepts, and one more for each scrape while that lasts, of which there may be eight. `close` ends them all, also
those whose client says nothing. `_lock` guards the connections and `_closing`.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

__all__ = ["Endpoint"]

PATH = "/metrics"
_MOST_AT_ONCE = 8
_PATIENCE_S = 10.0
_log = logging.getLogger("minions.prometheus")


class _Scrape(BaseHTTPRequestHandler):
    """One request. What is not asked for at `PATH` is told where to ask."""

    timeout = _PATIENCE_S
    server: _Server
    server_version = "minions"
    sys_version = ""

    def do_GET(self) -> None:
        """Answers with the metrics of this moment."""
        if self.path.partition("?")[0] != PATH:
            self._answer(404, "text/plain; charset=utf-8", f"the metrics are at {PATH}\n".encode())
            return
        try:
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            body = encode(self.server.registry)
        except Exception:  # noqa: BLE001 - logged: whatever it is, the next scrape is to be answered
            _log.exception("a scrape failed")
            self._answer(500, "text/plain; charset=utf-8", b"the metrics could not be collected; see the log\n")
            return
        self._answer(200, kind, body)

    do_HEAD = do_GET  # noqa: N815 - likewise

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name in the base class
        """Nothing is said of each scrape."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a scrape must not keep the process

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.registry = registry
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._scrapes: list[threading.Thread] = []  # the accepting thread only, and `close` once that has ended
        self._closing = False
        super().__init__(address, _Scrape)

    def server_bind(self) -> None:
        """Without the look-up of the host's name, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def is_closing(self) -> bool:
        """Whether nobody is to be answered any more."""
        with self._lock:
            return self._closing

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers on a thread of its own; one more than there may be is turned away."""
        with self._lock:
            takes = not self._closing and len(self._connections) < _MOST_AT_ONCE
            if takes:
                self._connections.add(request)
        if not takes:
            self.shutdown_request(request)
            return
        self._scrapes = [thread for thread in self._scrapes if thread.is_alive()]
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="minions-prometheus/scrape",
            daemon=True,
        )
        self._scrapes.append(thread)
        try:
            thread.start()
        except RuntimeError:  # the machine gives no further thread
            self._scrapes.remove(thread)
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone, or says nothing, is no error of ours."""
        _log.debug("a connection from %s broke off", client_address, exc_info=True)

    def hang_up(self) -> None:
        """Wakes whoever waits for a client, or for the next one."""
        with self._lock:
            self._closing = True
            connections = [*self._connections, self.socket]
            for connection in connections:  # under the lock: a number that was closed may be somebody else's by now
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def join_scrapes(self, timeout_s: float) -> None:
        """Waits for the threads of scrapes, once nobody is accepted any more."""
        for thread in self._scrapes:
            thread.join(timeout_s)


class Endpoint:
    """Serves metrics at an address, from when it is made until `close`."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        """Opens the port and begins to answer.

        Args:
            host: an address of this machine.
            port: 0 for one that is free.
            registry: of what is served.

        Raises:
            OSError: the port cannot be had.
            RuntimeError: the machine gives no further thread.
        """
        self._server = _Server((host, port), registry)
        self._thread = threading.Thread(target=self._serve, name="minions-prometheus", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._server.server_close()
            raise

    @property
    def url(self) -> str:
        """Where it answers."""
        host = self._server.server_name
        shown = f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
        return f"http://{shown}:{self._server.server_port}{PATH}"

    def close(self, timeout_s: float = 0.5) -> None:
        """Hangs up, and ends its threads. Blocks for so long at most; twice is safe."""
        self._server.hang_up()
        self._thread.join(timeout_s)
        self._server.join_scrapes(timeout_s)
        self._server.server_close()

    def _serve(self) -> None:
        while not self._server.is_closing:
            self._server.handle_request()
