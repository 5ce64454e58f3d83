"""Real Redis and Valkey servers for tests, each in a directory of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis as client

from sheetanchor.clock import SystemClock
from sheetanchor.components.base import Context
from sheetanchor.components.redis.component import RedisComponent
from sheetanchor.components.redis.programs import packaged_valkey
from sheetanchor.config.models import RedisConfig
from sheetanchor.events import SilentListener
from sheetanchor.process import ProcessRunner

START_SECONDS = 20.0
HIGHEST_PORT = 55_535


def programs() -> dict[str, Path]:
    """Return the server programs at hand, by product."""
    found = {"redis": shutil.which("redis-server"), "valkey": packaged_valkey()}
    return {product: Path(program) for product, program in found.items() if program}


@dataclass
class LiveServer:
    """A server under test; `settings` are lines of its configuration file."""

    program: Path
    directory: Path
    settings: tuple[str, ...] = ()
    password: str | None = None
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it on what its directory holds, and wait until it has loaded that."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"dir {self.directory}",
            "repl-diskless-sync-delay 0",
            *self.settings,
        ]
        if self.password:
            lines.append(f"requirepass {self.password}")
        configuration = self.directory / "server.conf"
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen([self.program, configuration], stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with self.client() as connection:
                    connection.ping()
                return
            except (client.ConnectionError, client.BusyLoadingError):
                assert self.process.poll() is None, (self.directory / "server.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop it cleanly (as `systemctl stop` would)."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def client(self, database: int = 0, **options: object) -> client.Redis:
        """Return a client of the usual library: an independent witness."""
        return client.Redis(port=self.port, db=database, password=self.password, **options)  # type: ignore[arg-type]


@contextmanager
def live_server(
    program: Path, directory: Path, *settings: str, password: str | None = None
) -> Iterator[LiveServer]:
    """Yield a running server; ended afterwards."""
    server = LiveServer(program, directory, settings, password)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def component(server: LiveServer, work: Path, **options: object) -> RedisComponent:
    """Return the component for a server."""
    if server.password and "password_file" not in options:
        file = work / "password"
        work.mkdir(parents=True, exist_ok=True)
        file.write_text(server.password + "\n", encoding="utf-8")
        options["password_file"] = file
    config = RedisConfig.model_validate(
        {"name": "cache", "type": "redis", "url": f"redis://127.0.0.1:{server.port}/0"} | options
    )
    return RedisComponent(config, Context(ProcessRunner(), SystemClock(), SilentListener(), work))


def free_port() -> int:
    """Return a TCP port that was free a moment ago.

    A cluster node also listens 10,000 ports higher, so the port has to leave room for that.
    """
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port <= HIGHEST_PORT:
            return port


def state(
    server: LiveServer, databases: tuple[int, ...] = (0,)
) -> dict[tuple[int, bytes], tuple[object, int]]:
    """Return every key's DUMP-free value and absolute expiry, by the usual client library."""
    found: dict[tuple[int, bytes], tuple[object, int]] = {}
    for database in databases:
        with server.client(database) as connection:
            for key in connection.scan_iter(count=1000):
                found[database, key] = (_value(connection, key), connection.pexpiretime(key))
    return found


def _value(connection: client.Redis, key: bytes) -> object:
    kind = connection.type(key)
    if kind == b"string":
        return connection.get(key)
    if kind == b"list":
        return connection.lrange(key, 0, -1)
    if kind == b"set":
        return connection.smembers(key)
    if kind == b"hash":
        return connection.hgetall(key)
    if kind == b"zset":
        return connection.zrange(key, 0, -1, withscores=True)
    groups = connection.xinfo_groups(key)
    pending = {
        group["name"]: [
            (each["message_id"], each["consumer"], each["times_delivered"])
            for each in connection.xpending_range(key, group["name"], "-", "+", 1000)
        ]
        for group in groups
    }
    return connection.xrange(key), groups, pending
