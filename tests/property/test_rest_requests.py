"""Whatever comes over the wire, the REST server answers in HTTP or ends the connection, and stays up."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sheetanchor.errors import ConfigError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.server.connection import Patience
from sheetanchor.repository.server.refused import RefusedError
from sheetanchor.repository.server.request import parse_head
from sheetanchor.repository.server.target import parse_target
from sheetanchor.repository.server.users import parse_user
from support.rest_server import Served, served

Input = TypeVar("Input")
Result = TypeVar("Result")
LINES = st.sampled_from(
    [
        b"GET /config HTTP/1.1",
        b"POST /?create=true HTTP/1.1",
        b"Host: x",
        b"Content-Length: 5",
        b"Range: bytes=1-",
    ]
)
HEADS = st.lists(LINES | st.binary(max_size=40), max_size=12).map(b"\r\n".join)
PARTS = st.sampled_from(
    ["", ".", "..", "data", "objects", "config", "locks", "a", "%2e", "x" * 201, "0" * 64]
)
PATHS = st.lists(PARTS | st.text(max_size=10), max_size=8).map(lambda parts: "/" + "/".join(parts))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An impatient server with an empty repository."""
    directory = tmp_path_factory.mktemp("fuzzed") / "served"
    with served(directory, patience=Patience(head=0.3, idle=0.3, window=0.3)) as running:
        running.backend().create()
        yield running


def _outcome(parse: Callable[[Input], Result], value: Input) -> Result | RefusedError | ConfigError:
    """Return what a parser returns, or the refusal it raises; anything else fails the test."""
    try:
        return parse(value)
    except (RefusedError, ConfigError) as refused:
        return refused


@given(HEADS | st.binary(max_size=300))
def test_heads_are_read_or_refused(head: bytes) -> None:
    """No bytes lead to anything but a request or a refusal with a status of 4xx or 5xx."""
    outcome = _outcome(parse_head, head)
    if isinstance(outcome, RefusedError):
        assert outcome.status >= 400
        assert outcome.close
    else:
        assert outcome.path.startswith("/")
        assert "transfer-encoding" not in outcome.headers


@given(PATHS)
@example("/objects/a/../../b")
@example("/data/" + "0" * 64)
def test_paths_stay_inside(path: str) -> None:
    """Every path that names an object names a file below the repository's own folder for its kind."""
    target = _outcome(parse_target, path)
    if isinstance(target, RefusedError):
        assert target.status == 404
        return
    assert len(target.repository) <= 2
    if target.name is not None:
        root = "/served"
        file = target.file(root)
        assert os.path.normpath(file) == file
        place = os.path.join(root, *target.repository, str(target.kind))
        assert file == place if target.kind is Kind.CONFIG else file.startswith(place + "/")


@given(st.text(max_size=200) | st.from_regex(r"[a-z]{1,5}:scrypt\$[0-9]{1,3}\$.{0,90}", fullmatch=True))
def test_lines_of_users_are_read_or_refused(line: str) -> None:
    """A line that is no user's raises ConfigError, which shows nothing of what is in the line."""
    outcome = _outcome(parse_user, line)
    if isinstance(outcome, ConfigError):
        assert len(line) < 20 or line not in outcome.message
    else:
        assert outcome.password_hash.startswith("scrypt$")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.tuples(HEADS, st.sampled_from([b"", b"\r\n\r\n"]), st.binary(max_size=30)).map(b"".join))
def test_a_server_survives_any_bytes(server: Served, data: bytes) -> None:
    """The answer to any bytes is HTTP or nothing, and the next client is served."""
    with socket.create_connection(server.address, timeout=10) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        try:
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert not answer.startswith(b"HTTP/1.1 500 ")


def test_after_all_that_it_still_works(server: Served, tmp_path: Path) -> None:
    """The server of the test before stores and returns an object."""
    backend = server.backend()
    backend.put(Kind.OBJECTS, "after/all", b"still here")
    assert backend.get(Kind.OBJECTS, "after/all") == b"still here"
