"""A connection to a Redis or Valkey server: RESP2, pipelines, and the raw replication stream.

Client libraries do not speak the replication protocol, which capture and restore rest on; with
the protocol in hand, the rest of a client is a page. Source: redis.io/docs, "Redis
serialization protocol specification".
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import BinaryIO, Self, cast

from sheetanchor.components.redis.address import Address
from sheetanchor.errors import ComponentError, UnreachableError

Argument = bytes | str | int
Reply = bytes | int | None | list["Reply"] | ComponentError

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
READ_BUFFER_BYTES = 1 << 18
_BUSY_ANSWERS = ("LOADING", "MASTERDOWN", "NOPERM", "BUSY", "MISCONF")


class RefusedCommandError(ComponentError):
    """The server answered a command with an error."""

    code = "refused_command"


class Wire:
    """One connection, logged in. Not for use by several threads."""

    def __init__(self, address: Address, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        """Connect and log in. Raises UnreachableError."""
        self.address = address
        self._socket = _connect(address, answer_seconds)
        self._file = cast("BinaryIO", self._socket.makefile("rb", buffering=READ_BUFFER_BYTES))
        try:
            self._log_in()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; it may be closed or broken already."""
        self._file.close()
        self._socket.close()

    @property
    def raw(self) -> BinaryIO:
        """What follows on the connection, for a reader of the replication stream."""
        return self._file

    @property
    def is_local(self) -> bool:
        """Whether the server runs on this machine, as far as addresses tell."""
        if self._socket.family == socket.AF_UNIX:
            return True
        return bool(self._socket.getsockname()[0] == self._socket.getpeername()[0])

    def call(self, *arguments: Argument) -> Reply:
        """Send one command and return the reply.

        Raises RefusedCommandError for an error reply, UnreachableError for a broken connection.
        """
        return checked(self.pipeline([arguments])[0], arguments)

    def pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Send all commands at once and return the replies; error replies are among them."""
        try:
            self._socket.sendall(b"".join(map(encoded, commands)))
            return [self._read() for _ in commands]
        except TimeoutError as error:
            raise UnreachableError(f"{self.address}: no answer to {_name(commands)}") from error
        except (OSError, ValueError, EOFError) as error:
            raise UnreachableError(f"{self.address}: the connection broke: {error or 'closed'}") from error

    def send(self, *arguments: Argument) -> None:
        """Send one command whose reply the caller reads from `raw`. Raises UnreachableError."""
        try:
            self._socket.sendall(encoded(arguments))
        except OSError as error:
            raise UnreachableError(f"{self.address}: the connection broke: {error}") from error

    def set_answer_seconds(self, seconds: float | None) -> None:
        """Change how long an answer may take; None waits for ever."""
        self._socket.settimeout(seconds)

    def _log_in(self) -> None:
        address = self.address
        password = address.password.reveal() if address.password else None
        name = address.username
        if password is None and name:
            raise UnreachableError(f"{address}: a username without a password", hint="set password_file")
        login: list[Argument] = [name] if name else []
        commands: list[list[Argument]] = [["AUTH", *login, password]] if password is not None else []
        for reply in self.pipeline([*commands, ["PING"]]):
            if isinstance(reply, ComponentError) and not reply.message.startswith(_BUSY_ANSWERS):
                hint = "check username and password_file of the component"
                raise UnreachableError(f"{address}: {reply.message}", hint=hint)

    def _read(self) -> Reply:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("closed by the server")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return self._read_bulk(int(rest))
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        if kind == b"*":
            length = int(rest)
            return None if length < 0 else [self._read() for _ in range(length)]
        if kind == b"-":
            return RefusedCommandError(rest.decode("utf-8", "replace"))
        raise ValueError(f"not a reply: {line[:40]!r}")

    def _read_bulk(self, length: int) -> bytes | None:
        if length < 0:
            return None
        data: bytes = self._file.read(length + 2)
        if len(data) != length + 2:
            raise EOFError("closed by the server")
        return data[:-2]


def encoded(arguments: Sequence[Argument]) -> bytes:
    """Write a command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def checked(reply: Reply, arguments: Sequence[Argument]) -> Reply:
    """Return the reply, or raise it with the command's name when it is an error."""
    if isinstance(reply, RefusedCommandError):
        raise RefusedCommandError(f"{_name([arguments])}: {reply.message}")
    return reply


def as_bytes(reply: Reply) -> bytes:
    """Narrow a reply to bytes. Raises ComponentError."""
    if not isinstance(reply, bytes):
        raise _unexpected(reply)
    return reply


def as_int(reply: Reply) -> int:
    """Narrow a reply to an integer. Raises ComponentError."""
    if not isinstance(reply, int):
        raise _unexpected(reply)
    return reply


def as_list(reply: Reply) -> list[Reply]:
    """Narrow a reply to a list. Raises ComponentError."""
    if not isinstance(reply, list):
        raise _unexpected(reply)
    return reply


def as_byte_list(reply: Reply) -> list[bytes]:
    """Narrow a reply to a list of bytes. Raises ComponentError."""
    values = as_list(reply)
    if not all(isinstance(value, bytes) for value in values):
        raise _unexpected(reply)
    return values  # type: ignore[return-value]  # all() has just proven it; casting copies


def _unexpected(reply: Reply) -> ComponentError:
    if isinstance(reply, ComponentError):
        return reply
    return ComponentError(f"the server gave an unexpected answer of type {type(reply).__name__}")


def _name(commands: Sequence[Sequence[Argument]]) -> str:
    words = (
        commands[0][:2]
        if commands and commands[0][0] in {"CONFIG", "CLIENT", "FUNCTION"}
        else commands[0][:1]
    )
    return " ".join(str(word) for word in words)


def _connect(address: Address, answer_seconds: float) -> socket.socket:
    try:
        if address.unix_path:
            plain = _connect_unix(address.unix_path)
        else:
            plain = socket.create_connection((address.host, address.port), CONNECT_SECONDS)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ready = _with_tls(plain, address) if address.tls else plain
    except OSError as error:
        cause = error.strerror or str(error)
        hint = "is the server running, and is the address right?"
        raise UnreachableError(f"{address}: cannot connect: {cause}", hint=hint) from error
    ready.settimeout(answer_seconds)
    return ready


def _connect_unix(path: str) -> socket.socket:
    plain = socket.socket(socket.AF_UNIX)
    try:
        plain.settimeout(CONNECT_SECONDS)
        plain.connect(path)
    except OSError:
        plain.close()
        raise
    return plain


def _with_tls(plain: socket.socket, address: Address) -> ssl.SSLSocket:
    assert address.tls is not None
    try:
        context = ssl.create_default_context(cafile=address.tls.authority)
        if address.tls.certificate:
            context.load_cert_chain(address.tls.certificate, address.tls.key)
        return context.wrap_socket(plain, server_hostname=address.host)
    except OSError:
        plain.close()
        raise
