"""REST servers on loopback: our own on a thread or as a program, rclone's as a program."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sheetanchor.clock import Clock, SystemClock
from sheetanchor.repository.backend.rest import RestBackend
from sheetanchor.repository.backend.rest_location import parse_rest_url
from sheetanchor.repository.server.options import Options
from sheetanchor.repository.server.passwords import hash_password
from sheetanchor.repository.server.rights import Right
from sheetanchor.repository.server.server import Server
from sheetanchor.repository.server.users import FixedUsers, User, UserSource
from sheetanchor.secret import Secret
from support.program import PROGRAM

PASSWORD = "SECRETSECRET"
_SECONDS = 30.0


@dataclass(frozen=True)
class Served:
    """A server that runs, and what it has logged."""

    url: str
    log: list[str]
    clients: list[RestBackend] = field(default_factory=list)
    """Closed with the server."""

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect to."""
        host, port = self.url.split("/")[2].rsplit(":", 1)
        return host, int(port)

    def backend(self, path: str = "", user: str | None = None, **environment: str) -> RestBackend:
        """Return a client of the repository at `path`."""
        client = rest_backend(f"rest:{self.url}{path}", user, **environment)
        self.clients.append(client)
        return client

    def close_clients(self) -> None:
        """Close all clients."""
        for client in self.clients:
            client.close()


def rest_backend(url: str, user: str | None = None, **environment: str) -> RestBackend:
    """Return a client; `user` has the password of all users of tests."""
    credentials = (
        {} if user is None else {"SHEETANCHOR_REST_USERNAME": user, "SHEETANCHOR_REST_PASSWORD": PASSWORD}
    )
    return RestBackend(parse_rest_url(url, {**credentials, **environment}))


def users(**rights: Right) -> FixedUsers:
    """Return users by name and right, all with the same password."""
    hashed = hash_password(Secret(PASSWORD))
    return FixedUsers({name: User(name, hashed, right) for name, right in rights.items()})


@contextmanager
def served(
    directory: Path, source: UserSource | None = None, *, clock: Clock | None = None, **options: object
) -> Iterator[Served]:
    """Serve a directory from a thread of this process."""
    directory.mkdir(parents=True, exist_ok=True)
    log: list[str] = []
    settings = replace(Options(directory, port=0), **options)  # type: ignore[arg-type]  # named by tests
    server = Server(settings, source, clock or SystemClock(), log.append)
    thread = threading.Thread(target=server.serve)
    thread.start()
    running = Served(server.url, log)
    try:
        yield running
    finally:
        running.close_clients()
        server.stop()
        thread.join()


@contextmanager
def program(
    directory: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[Served, subprocess.Popen[str]]]:
    """Serve a directory by `sheetanchor repository serve` on a free port."""
    directory.mkdir(parents=True, exist_ok=True)
    argv = [str(PROGRAM), "repository", "serve", str(directory), "--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(
        argv, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    ) as child:
        log: list[str] = []
        try:
            yield Served(_announced(child, log), log), child
        finally:
            if child.poll() is None:
                child.terminate()
            try:
                _, rest = child.communicate(timeout=_SECONDS)
                log.extend(rest.splitlines())
            except subprocess.TimeoutExpired:
                child.kill()
                raise


@contextmanager
def rclone_rest(rclone: str, directory: Path) -> Iterator[str]:
    """Yield the URL of `rclone serve restic`."""
    port = _free_port()
    argv = [rclone, "serve", "restic", "--addr", f"127.0.0.1:{port}", str(directory)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_until_open(port, server)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()


def certificate(directory: Path, *, name: str = "server") -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1 with stock openssl; return it and its key."""
    certificate_file, key = directory / f"{name}.pem", directory / f"{name}.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-days", "2", *subject, "-keyout", str(key), "-out", str(certificate_file)]
    subprocess.run(argv, check=True, capture_output=True, timeout=_SECONDS)
    return certificate_file, key


def _announced(child: subprocess.Popen[str], log: list[str]) -> str:
    assert child.stderr is not None
    for line in child.stderr:
        log.append(line.rstrip("\n"))
        if found := re.search(r" at rest:(https?://\S+)", line):
            return found[1]
    raise AssertionError(f"the server ended: {log}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert server.poll() is None, "rclone ended"
            time.sleep(0.05)
        else:
            return
    raise AssertionError("rclone does not answer")
