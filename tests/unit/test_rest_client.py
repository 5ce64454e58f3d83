"""The REST client: addresses, credentials, errors told apart, connections that break, version 1."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sheetanchor.errors import (
    ConfigError,
    FinalBackendError,
    NoSpaceError,
    ObjectAbsentError,
    ObjectExistsError,
    PassingBackendError,
    ReadOnlyBackendError,
)
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.rest import RestBackend
from sheetanchor.repository.backend.rest_location import parse_rest_url
from sheetanchor.repository.server.rights import Right
from support.rest_relay import relay
from support.rest_server import PASSWORD, Served, certificate, rest_backend, served, users

DATA = os.urandom(300_000)
NAME = hashlib.sha256(DATA).hexdigest()


@contextmanager
def _client(url: str, user: str | None = None) -> Iterator[RestBackend]:
    backend = rest_backend(f"rest:{url}", user)
    try:
        yield backend
    finally:
        backend.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    """A server without users, with one pack."""
    with served(tmp_path / "served") as running:
        backend = running.backend()
        backend.create()
        backend.put(Kind.DATA, NAME, DATA)
        yield running


@pytest.mark.parametrize(
    "url",
    [
        *("rest:", "rest:host:8000/", "rest:ftp://host/", "rest:http:///path", "rest:http://host:0/"),
        *("rest:http://host:99999/", "rest:http://host/?q", "rest:http://host/#f", "rest:http://host/a b"),
        *("rest:https://user:SECRETSECRET@host/", "rest:http://user@backup.example/"),
    ],
)
def test_addresses_that_are_wrong_or_unsafe_are_refused(url: str) -> None:
    """Each with a hint, and without any password in the message."""
    with pytest.raises(ConfigError) as caught:
        parse_rest_url(url, {})
    assert caught.value.hint
    assert "SECRETSECRET" not in caught.value.message


def test_addresses_and_credentials() -> None:
    """Our variables stand above restic's, a name in the URL above both; nothing of it is shown."""
    environment = {
        "RESTIC_REST_USERNAME": "a",
        "RESTIC_REST_PASSWORD": "SECRET1",
        "SHEETANCHOR_REST_PASSWORD": "SECRET2",
    }
    location = parse_rest_url("rest:https://host//x/y", environment)
    assert (location.host, location.port, location.path) == ("host", 443, "/x/y/")
    assert location.username == "a"
    assert location.password is not None
    assert location.password.reveal() == "SECRET2"
    assert "SECRET" not in repr(location) + location.url
    assert parse_rest_url("rest:https://b%40c@host/", environment).username == "b@c"
    assert parse_rest_url("rest:http://[::1]:8000", {}).url == "rest:http://[::1]:8000/"
    insecure = {**environment, "SHEETANCHOR_REST_INSECURE": "1"}
    assert parse_rest_url("rest:http://backup.example/", insecure).insecure


def test_a_password_comes_from_a_file(tmp_path: Path) -> None:
    """Its first line is the password; a file that is not there is named."""
    file = tmp_path / "password"
    file.write_text("SECRET\n")
    location = parse_rest_url("rest:https://a@host/", {"SHEETANCHOR_REST_PASSWORD_FILE": str(file)})
    assert location.password is not None
    assert location.password.reveal() == "SECRET"
    with pytest.raises(ConfigError, match="no-such-file"):
        parse_rest_url("rest:https://a@host/", {"SHEETANCHOR_REST_PASSWORD_FILE": "no-such-file"})


def test_refusals_are_final_and_told_apart(tmp_path: Path) -> None:
    """No rights, no credentials, no space: errors of their own kinds, none worth a retry."""
    with served(
        tmp_path / "served", users(owner=Right.FULL, reader=Right.READ_ONLY, worker=Right.RUN), quota=1000
    ) as server:
        owner, reader, worker = (server.backend("", user) for user in ("owner", "reader", "worker"))
        owner.create()
        small = hashlib.sha256(b"small").hexdigest()
        owner.put(Kind.DATA, small, b"small")
        with pytest.raises(ReadOnlyBackendError):
            reader.put(Kind.LOCKS, small, b"small")
        with pytest.raises(ReadOnlyBackendError):
            reader.delete(Kind.DATA, small)
        with pytest.raises(ReadOnlyBackendError):
            reader.create()
        with pytest.raises(FinalBackendError, match="403"):
            worker.get(Kind.DATA, small)
        with pytest.raises(NoSpaceError):
            owner.put(Kind.DATA, NAME, DATA)
        with pytest.raises(FinalBackendError, match="401") as caught:
            server.backend().get(Kind.DATA, small)
        assert caught.value.hint
        worker.put(Kind.DATA, small, b"small")
        with pytest.raises(ObjectExistsError):
            worker.put(Kind.DATA, small, b"small", if_absent=True)


def test_a_damaged_file_is_replaced_by_a_whole_one(server: Served, tmp_path: Path) -> None:
    """A put over an object whose bytes differ stores the bytes that belong there."""
    (file,) = (path for path in (tmp_path / "served" / "data").rglob("*") if path.is_file())
    file.unlink()
    file.write_bytes(DATA[:-1] + b"?")
    backend = server.backend()
    backend.put(Kind.DATA, NAME, DATA)
    assert backend.get(Kind.DATA, NAME) == DATA


def test_what_breaks_off_may_pass(server: Served) -> None:
    """A download or an upload that is cut is a passing error, never short data or a false success."""

    def cut(data: bytes) -> bytes | None:
        return data if len(data) < 1000 else None

    with relay(server.address, answers=cut) as url, _client(url) as backend:
        with pytest.raises(PassingBackendError):
            backend.get(Kind.DATA, NAME)
        assert backend.size(Kind.DATA, NAME) == len(DATA)
    other = bytes(reversed(DATA))
    with (
        relay(server.address, requests=cut) as url,
        _client(url) as backend,
        pytest.raises(PassingBackendError),
    ):
        backend.put(Kind.DATA, hashlib.sha256(other).hexdigest(), other)
    with pytest.raises(ObjectAbsentError):
        server.backend().size(Kind.DATA, hashlib.sha256(other).hexdigest())


def test_a_connection_that_the_server_closed_is_no_failure(server: Served) -> None:
    """A kept connection that is gone when it is used again is replaced by a new one."""
    first = iter([True])

    def cut_second(data: bytes) -> bytes | None:
        return data if next(first, False) or data.startswith(b"GET") else None

    with relay(server.address, requests=cut_second) as url, _client(url) as backend:
        assert backend.size(Kind.DATA, NAME) == len(DATA)
        assert backend.get(Kind.DATA, NAME) == DATA
    with pytest.raises(PassingBackendError, match=r"127\.0\.0\.1:1/"):
        rest_backend("rest:http://127.0.0.1:1/").size(Kind.DATA, NAME)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (500, PassingBackendError),
        (503, PassingBackendError),
        (429, PassingBackendError),
        (418, FinalBackendError),
        (302, FinalBackendError),
    ],
)
def test_statuses_are_sorted(server: Served, status: int, expected: type[Exception]) -> None:
    """Failures of the server may pass, what it does not understand does not."""

    def change(data: bytes) -> bytes:
        return data.replace(b"HTTP/1.1 200 OK", f"HTTP/1.1 {status} No".encode())

    with (
        relay(server.address, answers=change) as url,
        _client(url) as backend,
        pytest.raises(expected, match=str(status)),
    ):
        backend.size(Kind.DATA, NAME)


def test_version_1_lists_names_and_asks_for_sizes(server: Served) -> None:
    """Against a server that knows version 1 only, a listing is the same."""

    requests: list[bytes] = []

    def older(data: bytes) -> bytes:
        requests.append(data)
        return data.replace(b"rest.v2", b"rest.v1")

    with relay(server.address, requests=older) as url, _client(url) as backend:
        assert [(found.name, found.size) for found in backend.list(Kind.DATA)] == [(NAME, len(DATA))]
    assert sum(one.startswith(b"HEAD /data/") for one in requests) == 1


def test_something_else_than_a_repository_is_named(server: Served) -> None:
    """A listing that is none is a final error with a hint."""

    def change(data: bytes) -> bytes:
        return data.replace(b'[{"name"', b'<html>me"')

    with (
        relay(server.address, answers=change) as url,
        _client(url) as backend,
        pytest.raises(FinalBackendError, match="no listing") as caught,
    ):
        list(backend.list(Kind.DATA))
    assert caught.value.hint


def test_a_certificate_has_to_be_known(tmp_path: Path) -> None:
    """One that is not trusted is refused for good; named, it is; or nothing is asked of it at all."""
    ca, key = certificate(tmp_path)
    source = users(owner=Right.FULL)
    with served(tmp_path / "served", source, certificate=ca, certificate_key=key) as server:
        with pytest.raises(FinalBackendError, match="not trusted") as caught:
            server.backend("", "owner").create()
        assert caught.value.hint
        server.backend("", "owner", SHEETANCHOR_REST_CACERT=str(ca)).create()
        server.backend("", "owner", SHEETANCHOR_REST_INSECURE="1").create()
        assert PASSWORD not in "".join(server.log)
