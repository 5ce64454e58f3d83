"""Finds Redis and Valkey servers: on the usual port and at the usual sockets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sheetanchor.stacks.base import Discovered
from sheetanchor.stacks.discovery.wire import exchange

SOCKETS = (
    Path("/run/redis/redis-server.sock"),
    Path("/run/redis/redis.sock"),
    Path("/run/valkey/valkey.sock"),
)
DEFAULT_PORT = 6379
_PORT_IN_URL = re.compile(r"redis://(?:[^@/]*@)?([^:/@]+)(?::(\d+))?")
_VERSION = re.compile(rb"(redis|valkey)_version:([\d.]+)")
_ANSWER_BYTES = 4096


def find(
    environment: Mapping[str, str], *, sockets: Sequence[Path] = SOCKETS, port: int = DEFAULT_PORT
) -> list[Discovered]:
    """Return the servers that answer a PING."""
    places: list[tuple[str, tuple[str, int] | Path]] = []
    if match := _PORT_IN_URL.match(environment.get("REDIS_URL", "")):
        host, number = match.group(1), int(match.group(2) or DEFAULT_PORT)
        places.append((f"redis://{host}:{number}/0", (host, number)))
    places.append((f"redis://127.0.0.1:{port}/0", ("127.0.0.1", port)))
    places += [(f"unix://{path}", path) for path in sockets if path.exists()]
    found: list[Discovered] = []
    for url, address in places:
        facts = None if any(("url", url) in one.settings for one in found) else _facts(address)
        # One server that listens at a port and at a socket is one component.
        if facts is not None and not (found and isinstance(address, Path)):
            name = "redis" if not found else f"redis-{len(found) + 1}"
            found.append(Discovered(name, "redis", "local", facts, (("url", url),)))
    return found


def _facts(address: tuple[str, int] | Path) -> tuple[str, ...] | None:
    """Return what is known of the server at `address`; None if it is none."""
    answer = exchange(address, b"PING\r\n", 256)
    if answer is None:
        return None
    if answer.startswith((b"-NOAUTH", b"-NOPERM", b"-DENIED")):
        return ("answers, but asks for a password: set password_file",)
    if not answer.startswith(b"+PONG"):
        return None
    versions = dict(_VERSION.findall(exchange(address, b"INFO server\r\n", _ANSWER_BYTES) or b""))
    # Valkey reports a Redis version too, for programs that look for one.
    for name, title in ((b"valkey", "Valkey"), (b"redis", "Redis")):
        if name in versions:
            return (f"{title} {versions[name].decode()}",)
    return ("answers",)
