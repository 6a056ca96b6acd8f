"""Serves what a system counts and measures to Prometheus, over HTTP on the loopback interface, for as long as the system runs."""

from __future__ import annotations

import errno
import ipaddress
import logging

import attrs
from prometheus_client import CollectorRegistry

from minions import ConfigurationError
from minions.hookspecs import RunningSystem, hookimpl
from minions_prometheus.collector import StatisticsCollector
from minions_prometheus.endpoint import Endpoint

__all__ = ["Prometheus", "Settings", "StatisticsCollector"]
__version__ = "0.1.0"

_log = logging.getLogger("minions.prometheus")


@attrs.frozen(kw_only=True)
class Settings:
    """What ``[plugins.prometheus]`` in ``minions.toml`` may say.

    Attributes:
        port: at which it answers; 0 for one that is free, which is then in the log.
        host: the address that it listens at. Whoever reaches it may read all figures, so by default only this machine does.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    port: int = 9464
    host: str = "127.0.0.1"

    def __attrs_post_init__(self) -> None:
        problems = []
        if not 0 <= self.port <= 65_535:
            problems.append(f"port = {self.port!r}: must be a number from 0 to 65535; 9464 where nothing else is said")
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            problems.append(f'host = {self.host!r}: must be an address such as "127.0.0.1" or "::1", not a name')
        if problems:
            raise ConfigurationError("Settings", problems)


class Prometheus:
    """The plugin. What it has opened it closes when the system has stopped.

    Attributes:
        settings: replaced by what ``minions.toml`` says.
        url: where it answers; empty while it does not. Written on the thread of the hooks.
    """

    def __init__(self, settings: Settings = Settings()) -> None:
        self.settings = settings
        self.url = ""
        self._endpoint: Endpoint | None = None

    @hookimpl
    def attached(self, system: RunningSystem) -> None:
        """Begins to answer.

        Raises:
            ConfigurationError: the port cannot be had.
        """
        self._close()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(StatisticsCollector(system.name, system.statistics))
        host, port = self.settings.host, self.settings.port
        try:
            self._endpoint = Endpoint(host, port, registry)
        except OSError as error:
            raise ConfigurationError("Settings", [_why_not(host, port, error)]) from error
        self.url = self._endpoint.url
        _log.info("%s: metrics are at %s", system.name, self.url)

    @hookimpl
    def system_stopped(self) -> None:
        """Closes the port."""
        self._close()

    def _close(self) -> None:
        endpoint, self._endpoint, self.url = self._endpoint, None, ""
        if endpoint is not None:
            endpoint.close()


def _why_not(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port = {port}: another program, or another system, answers at {host} already; set another one in "
                "minions.toml, or in Prometheus(Settings(port=...))"
            )
        case errno.EACCES:
            return f"port = {port}: this user may not open it; take one from 1024 up"
        case errno.EADDRNOTAVAIL:
            return f"host = {host!r}: this machine has no such address; 127.0.0.1 always is there"
        case _:
            return f"host = {host!r}, port = {port}: cannot be opened: {error.strerror or error}"
