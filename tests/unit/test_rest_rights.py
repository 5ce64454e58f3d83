"""What each right may not do is refused, and changes nothing: every request of every right is tried."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.server.passwords import hash_password
from sheetanchor.repository.server.rights import Right
from sheetanchor.repository.server.users import FixedUsers, User
from sheetanchor.secret import Secret
from support.fake_clock import FakeClock
from support.rest_server import PASSWORD, Served, served, users

STORED = b"what is stored already"
NEW = b"what is new"
METHODS = ("HEAD", "GET", "LIST", "POST", "DELETE")
EVERY = {f"{method} {kind}" for method in METHODS for kind in Kind} - {"LIST config"} | {"CREATE"}
READS = {one for one in EVERY if one.split()[0] in ("HEAD", "GET", "LIST")}
DELETES = {one for one in EVERY if one.startswith("DELETE")}
# Written down once more, by request, so that a slip in the server's own table shows.
MAY = {
    Right.FULL: EVERY,
    Right.READ_ONLY: READS,
    Right.APPEND_ONLY: EVERY - DELETES | {"DELETE locks"},
    Right.RUN: {
        *("HEAD config", "HEAD keys", "HEAD index", "HEAD locks", "HEAD data"),
        *("GET config", "GET keys", "GET index", "GET locks"),
        *("LIST keys", "LIST index", "LIST locks", "LIST data"),
        *("POST data", "POST index", "POST locks"),
    },
}


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _path(kind: Kind, data: bytes) -> str:
    if kind is Kind.CONFIG:
        return "/config"
    return "/objects/wal/1" if kind is Kind.OBJECTS else f"/{kind}/{_name(data)}"


def _send(server: Served, user: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.address, timeout=20)
    credentials = b64encode(f"{user}:{PASSWORD}".encode()).decode()
    connection.request(method, path, body, {"Authorization": f"Basic {credentials}"})
    response = connection.getresponse()
    result = response.status, response.read()
    connection.close()
    return result


@pytest.fixture(params=list(Right))
def right(request: pytest.FixtureRequest) -> Right:
    """Each right in turn."""
    return Right(request.param)


@pytest.fixture
def server(tmp_path: Path, right: Right) -> Iterator[Served]:
    """A server whose one user has the right."""
    with served(tmp_path / "served", users(user=right, other=Right.RUN, owner=Right.FULL)) as running:
        yield running


def _fill(directory: Path) -> None:
    for kind in Kind:
        name = _path(kind, STORED).removeprefix("/")
        path = directory / (name.replace("data/", f"data/{_name(STORED)[:2]}/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(STORED)


def _files(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def _request(word: str) -> tuple[str, str, bytes | None]:
    method, _, kind = word.partition(" ")
    if method == "CREATE":
        return "POST", "/?create=true", b""
    if method == "LIST":
        return "GET", f"/{kind}/", None
    if method == "POST":
        path = "/objects/wal/2" if kind == "objects" else _path(Kind(kind), NEW)
        return "POST", path, NEW
    return method, _path(Kind(kind), STORED), None


def test_a_right_is_what_its_table_says(tmp_path: Path, server: Served, right: Right) -> None:
    """Each request succeeds or is refused with 403; one that is refused changes no file."""
    directory = tmp_path / "served"
    for word in sorted(EVERY):
        shutil.rmtree(directory)
        _fill(directory)
        if word == "POST config":
            (directory / "config").unlink()
        before = _files(directory)
        status, body = _send(server, "user", *_request(word))
        if word in MAY[right]:
            assert status == 200, (word, body)
        else:
            assert status == 403, word
            assert _files(directory) == before, word
            assert STORED not in body, word


def test_a_run_removes_its_own_locks_only(tmp_path: Path) -> None:
    """Not those of another run, nor those that were there, whoever's they were."""
    with served(tmp_path / "served", users(one=Right.RUN, two=Right.RUN, owner=Right.FULL)) as server:
        _fill(tmp_path / "served")
        mine = f"/locks/{_name(NEW)}"
        assert _send(server, "one", "POST", mine, NEW)[0] == 200
        assert _send(server, "two", "DELETE", mine)[0] == 403
        assert _send(server, "one", "POST", f"/locks/{_name(STORED)}", STORED)[0] == 403
        assert _send(server, "one", "DELETE", f"/locks/{_name(STORED)}")[0] == 403
        assert _send(server, "one", "DELETE", mine)[0] == 200
        assert _send(server, "one", "DELETE", mine)[0] == 200
        assert _send(server, "owner", "DELETE", f"/locks/{_name(STORED)}")[0] == 200
        assert list((tmp_path / "served" / "locks").iterdir()) == []


def test_a_credential_ends_at_its_time(tmp_path: Path) -> None:
    """It works until the second before, and never after; a password that was right is no exception."""
    clock = FakeClock()
    expires = clock.now() + timedelta(hours=12)
    user = User("worker", hash_password(Secret(PASSWORD)), Right.RUN, expires)
    with served(tmp_path / "served", FixedUsers({"worker": user}), clock=clock) as server:
        _fill(tmp_path / "served")
        clock.advance(12 * 3600 - 1)
        assert _send(server, "worker", "GET", "/config")[0] == 200
        clock.advance(1)
        status, body = _send(server, "worker", "GET", "/config")
        assert (status, body) == (401, b"this credential has expired\n")


def test_append_only_caps_every_right(tmp_path: Path) -> None:
    """Started so, the server lets nobody remove more than locks, and a run still only its own."""
    source = users(owner=Right.FULL, worker=Right.RUN)
    with served(tmp_path / "served", source, append_only=True) as server:
        _fill(tmp_path / "served")
        for kind in set(Kind) - {Kind.LOCKS}:
            assert _send(server, "owner", "DELETE", _path(kind, STORED))[0] == 403
        assert _send(server, "worker", "DELETE", _path(Kind.LOCKS, STORED))[0] == 403
        assert _send(server, "owner", "DELETE", _path(Kind.LOCKS, STORED))[0] == 200
        assert _send(server, "worker", "POST", f"/locks/{_name(NEW)}", NEW)[0] == 200
        assert _send(server, "worker", "DELETE", f"/locks/{_name(NEW)}")[0] == 200
        assert len(_files(tmp_path / "served")) == len(Kind) - 1


def test_without_credentials_nothing_is_answered(tmp_path: Path) -> None:
    """No request of any kind gets past the door, and the answer tells nothing of what is there."""
    with served(tmp_path / "served", users(owner=Right.FULL)) as server:
        _fill(tmp_path / "served")
        before = _files(tmp_path / "served")
        for word in sorted(EVERY):
            status, body = _send(server, "nobody", *_request(word))
            assert status == 401
            assert STORED not in body
        assert _files(tmp_path / "served") == before
        assert PASSWORD not in "".join(server.log)


def test_only_who_may_remove_may_replace(tmp_path: Path) -> None:
    """A sealed object is replaced on request by a full user; restic's files never are."""
    with served(tmp_path / "served", users(owner=Right.FULL, appender=Right.APPEND_ONLY)) as server:
        _fill(tmp_path / "served")
        for user, kind, status in (
            ("appender", Kind.OBJECTS, 403),
            ("owner", Kind.CONFIG, 403),
            ("owner", Kind.OBJECTS, 200),
        ):
            connection = http.client.HTTPConnection(*server.address, timeout=20)
            credentials = b64encode(f"{user}:{PASSWORD}".encode()).decode()
            headers = {"Authorization": f"Basic {credentials}", "If-Match": "*"}
            connection.request("PUT", _path(kind, STORED), NEW, headers)
            assert connection.getresponse().status == status, (user, kind)
            connection.close()
        listed = json.loads(_send(server, "owner", "GET", "/objects/wal/")[1])
        assert [(one["name"], one["size"]) for one in listed] == [("wal/1", len(NEW))]
        assert _send(server, "owner", "GET", "/config")[1] == STORED
