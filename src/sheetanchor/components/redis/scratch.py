"""A server of our own that loads an RDB file: what it holds then is what the file holds.

It runs as a replica of a master that does not exist: a plain server drops, while loading, the
keys whose time has come since the file was written; a replica keeps them, as only a master may
expire keys (redis.io/docs, "How Redis replication deals with expires on keys").
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from sheetanchor.clock import Clock
from sheetanchor.components.redis import guard
from sheetanchor.components.redis.address import Address
from sheetanchor.components.redis.server import information
from sheetanchor.components.redis.wire import Wire
from sheetanchor.errors import ComponentError, ToolError, UnreachableError
from sheetanchor.secret import Secret

START_SECONDS = 30.0
POLL_SECONDS = 0.02
PORT_ATTEMPTS = 5
DATABASES = 4096
"""More than anyone uses: a file with a database beyond the server's limit does not load."""


class ScratchServer:
    """A running server that holds one RDB file; a context manager that stops it."""

    def __init__(self, program: Path, rdb: Path, directory: Path, clock: Clock) -> None:
        """Start `program` on `rdb` and wait until it is loaded; `directory` takes its log.

        Raises ComponentError when the file does not load, ToolError when the program does not
        run. Ends with this process, however that ends.
        """
        self._clock = clock
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log = directory / "scratch.log"
        self._configuration = directory / "scratch.conf"
        for _ in range(PORT_ATTEMPTS):
            self._launch(program, rdb)
            try:
                self._wait_until_loaded(rdb)
            except _PortTakenError:
                continue
            except BaseException:
                self.stop()
                raise
            return
        raise ToolError(f"{program.name}: found no free port for a scratch server")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def connect(self) -> Wire:
        """Open a connection. Raises UnreachableError."""
        return Wire(self._address)

    def stop(self) -> None:
        """End the server and wait until it is gone."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()
        self._configuration.unlink(missing_ok=True)

    def _launch(self, program: Path, rdb: Path) -> None:
        password = secrets.token_hex(24)
        self._address = Address(port=_free_port(), password=Secret(password))
        text = _configuration(self._address.port, password, rdb)
        descriptor = os.open(self._configuration, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        with self._log.open("wb") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(guard.__file__), str(program), str(self._configuration)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_until_loaded(self, rdb: Path) -> None:
        deadline = self._clock.monotonic() + START_SECONDS
        while True:
            if self._guard.poll() is not None:
                self._raise_ended(rdb)
            try:
                with self.connect() as wire:
                    if information(wire, "persistence")["loading"] == "0":
                        return
            except UnreachableError as error:
                if self._clock.monotonic() > deadline:
                    raise ToolError(f"the scratch server does not answer: {error.message}") from error
            self._clock.sleep(POLL_SECONDS)

    def _raise_ended(self, rdb: Path) -> None:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        if any("Address already in use" in line for line in lines):
            raise _PortTakenError("the port is taken")
        marked = [line.split(" # ", 1)[1] for line in lines if " # " in line and "oO0Oo" not in line]
        cause = next((line for line in marked if _is_cause(line)), marked[-1] if marked else "no message")
        raise ComponentError(f"{rdb.name}: a scratch server cannot load it: {cause}")


class _PortTakenError(ComponentError):
    """Another process took the port between our choice and the server's start."""


def _is_cause(line: str) -> bool:
    return any(
        word in line for word in ("rror", "rong", "Can't", "nexpected", "Short read", "Unknown", "FATAL")
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _configuration(port: int, password: str, rdb: Path) -> str:
    settings = (
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        f"dir {_quoted(str(rdb.parent))}",
        f"dbfilename {_quoted(rdb.name)}",
        'save ""',
        "appendonly no",
        "replicaof 127.0.0.1 1",
        "replica-serve-stale-data yes",
        "maxmemory 0",
        f"databases {DATABASES}",
        "activerehashing no",
    )
    return "\n".join(settings) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
