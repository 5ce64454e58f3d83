"""Asks a socket who is there: a few bytes of a protocol, and a short wait."""

from __future__ import annotations

import socket
from pathlib import Path

TIMEOUT_S = 2.0


def exchange(address: tuple[str, int] | Path, question: bytes, length: int) -> bytes | None:
    """Send `question`, return up to `length` bytes of the answer; None where nobody is.

    An answer that takes longer than two seconds is as good as none.
    """
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    try:
        if isinstance(address, Path):
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.settimeout(TIMEOUT_S)
            with connection:
                connection.connect(str(address))
                return _answer(connection, question, length)
        with socket.create_connection(address, TIMEOUT_S) as connection:
            return _answer(connection, question, length)
    except OSError:
        return None


def _answer(connection: socket.socket, question: bytes, length: int) -> bytes:
    connection.settimeout(TIMEOUT_S)
    connection.sendall(question)
    return connection.recv(length)
