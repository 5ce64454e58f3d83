"""The REST server under clients that lie, break off, race, dawdle or try to get out."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.errors import ConfigError, NoSpaceError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.server.connection import Patience
from sheetanchor.repository.server.options import Options
from sheetanchor.repository.server.server import Server
from support.rest_server import Served, certificate, program, served

IMPATIENT = Patience(head=0.5, idle=0.7, window=0.6)


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the server keeps its files."""
    return tmp_path / "served"


@pytest.fixture
def server(directory: Path) -> Iterator[Served]:
    """A server without users, with an empty repository."""
    with served(directory) as running:
        running.backend().create()
        yield running


def _files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def _send(
    server: Served, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.address, timeout=20)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    result = response.status, response.read()
    connection.close()
    return result


def _raw(server: Served, data: bytes, *, end: bool = True) -> bytes:
    """Send bytes as they are; return all that comes until the server ends the connection."""
    with socket.create_connection(server.address, timeout=20) as sock:
        sock.sendall(data)
        if end:
            sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_bytes_that_are_not_what_the_name_says_are_not_stored(server: Served, directory: Path) -> None:
    """An upload is hashed while it comes; with a wrong hash nothing of it stays."""
    good = os.urandom(700_000)
    bad = good[:-1] + bytes([good[-1] ^ 1])
    for kind in ("data", "index", "keys", "locks", "snapshots"):
        assert _send(server, "POST", f"/{kind}/{_name(good)}", bad)[0] == 400
    assert _send(server, "PUT", "/objects/wal/1", bad, Content_Digest="sha-256=:AAAA:")[0] == 400
    assert _files(directory) == []
    assert _send(server, "POST", f"/data/{_name(good)}", good)[0] == 200
    assert _files(directory) == [f"data/{_name(good)[:2]}/{_name(good)}"]


@pytest.mark.parametrize("sent", [0, 1, 300_000, 699_999])
def test_an_upload_that_is_cut_leaves_nothing(server: Served, directory: Path, sent: int) -> None:
    """However much came, no file and no part of one is left."""
    data = os.urandom(700_000)
    head = f"POST /data/{_name(data)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    assert _raw(server, head + data[:sent]) == b""
    assert _files(directory) == []
    assert any("in the middle of a body" in line for line in server.log)


def test_of_two_uploads_of_one_name_one_is_stored(server: Served, directory: Path) -> None:
    """Eight at once: one is told that it stored the object, the others that it is there; it is whole."""
    data = os.urandom(1 << 20)
    barrier = threading.Barrier(8)

    def upload(_: int) -> int:
        barrier.wait()
        return _send(server, "POST", f"/data/{_name(data)}", data)[0]

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(upload, range(8))) == [200] + [403] * 7
    assert server.backend().get(Kind.DATA, _name(data)) == data
    assert len(_files(directory)) == 1


def test_sealed_objects_race_for_a_name(server: Served) -> None:
    """With If-None-Match: * the losers get 412, and the winner's bytes stay."""
    barrier = threading.Barrier(8)

    def upload(number: int) -> int:
        barrier.wait()
        return _send(server, "PUT", "/objects/state/x", bytes([number]) * 1000, If_None_Match="*")[0]

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(upload, range(8)))
    assert sorted(statuses) == [200] + [412] * 7
    assert server.backend().get(Kind.OBJECTS, "state/x") == bytes([statuses.index(200)]) * 1000


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/data/../../secret",
        "/objects/../../secret",
        "/objects/..",
        "/objects/a/../../../secret",
        "/objects/./a",
        "/objects//a",
        "/objects/%2e%2e/%2e%2e/secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/objects/a%00b",
        "//etc/passwd",
        "/a/b/c/config",
        "/.hidden/config",
        "/config/x",
        "/data/" + "A" * 64,
        "/data/" + "0" * 63,
        "/data/" + "0" * 64 + "/x",
        "/objects/" + "x" * 201,
        "/objects/" + "/".join(["x"] * 500),
        "/objects/a~tmp-1",
        "/objects/a\\..\\b",
    ],
)
def test_paths_that_lead_elsewhere_do_not_exist(server: Served, directory: Path, path: str) -> None:
    """No trick reads, writes or removes anything outside of a repository's own places."""
    secret = directory.parent / "secret"
    secret.write_bytes(b"secret")
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
        answer = _raw(server, request.encode())
        assert answer.startswith(b"HTTP/1.1 404 "), (method, answer[:100])
        assert b"secret" not in answer
    assert _files(directory) == []
    assert secret.read_bytes() == b"secret"


def test_links_are_no_objects(server: Served, directory: Path) -> None:
    """A symbolic link or a pipe in the place of an object is not followed and not waited for."""
    (directory.parent / "secret").write_bytes(b"secret")
    (directory / "config").symlink_to(directory.parent / "secret")
    (directory / "objects" / "folder").symlink_to(directory.parent)
    os.mkfifo(directory / "locks" / ("0" * 64))
    assert _send(server, "GET", "/config")[0] == 404
    assert _send(server, "GET", "/locks/" + "0" * 64)[0] == 404
    assert json.loads(_send(server, "GET", "/objects/")[1]) == []
    assert json.loads(_send(server, "GET", "/locks/")[1]) == []


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /config HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /config HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET /config HTTP/1.1\r\n\r\n", 400),
        (b"GET /config HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"GET http://other/config HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"POST /config HTTP/1.1\r\nHost: x\r\n\r\n", 411),
        (b"POST /config HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST /config HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
        (b"POST /config HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /config HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999999\r\n\r\n", 413),
        (
            b"POST /config HTTP/1.1\r\nHost: x\r\nOrigin: http://evil\r\nConnection: close\r\n\r\n",
            403,
        ),
        (b"GET /config HTTP/1.1\r\nHost: x\r\nFolded: a\r\n b\r\n\r\n", 400),
        (b"PATCH /config HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
    ],
)
def test_requests_that_are_odd_are_refused(
    server: Served, directory: Path, request_head: bytes, status: int
) -> None:
    """Huge, doubtful or doubled heads get one answer with a reason, and the connection ends."""
    answer = _raw(server, request_head, end=False)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    assert answer.count(b"Server: sheetanchor") == 1
    assert _files(directory) == []


def test_slow_clients_are_cut_off(directory: Path) -> None:
    """One byte now and then holds a connection no longer than the patience, and others are served."""
    with served(directory, patience=IMPATIENT, connections=8) as server:
        server.backend().create()
        began = time.monotonic()
        with ThreadPoolExecutor(6) as threads:
            head = b"GET /config HTTP/1.1\r\nHost: x\r\n"
            body = b"POST /config HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n"
            slow = [threads.submit(_drip, server, text) for text in (b"", b"G", head, head, body, body)]
            assert server.backend().list(Kind.KEYS) is not None
            answers = [one.result() for one in slow]
        assert time.monotonic() - began < 10
        assert [answer[:13] for answer in answers[1:4]] == [b"HTTP/1.1 408 "] * 3
        assert answers[0] in (b"", answers[1])
        assert answers[4:] == [b"", b""]
        assert _files(directory) == []


def _drip(server: Served, beginning: bytes) -> bytes:
    """Send a beginning, then a byte every tenth of a second, until the server has enough of it."""
    received = b""
    with socket.create_connection(server.address, timeout=10) as sock:
        sock.sendall(beginning)
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            sock.settimeout(0.1)
            try:
                data = sock.recv(65536)
                received += data
                if not data:
                    return received
            except TimeoutError:
                pass
            except ConnectionError:
                return received
            try:
                sock.sendall(b"x")
            except OSError:
                return received
    raise AssertionError("the server waits for ever")


def test_a_client_that_reads_nothing_is_cut_off(directory: Path) -> None:
    """A download that is not fetched ends after the patience for a window."""
    with served(directory, patience=IMPATIENT) as server:
        (directory / "config").write_bytes(bytes(64 << 20))
        with socket.create_connection(server.address, timeout=20) as sock:
            sock.sendall(b"GET /config HTTP/1.1\r\nHost: x\r\n\r\n")
            deadline = time.monotonic() + 10
            while not any("connection ended" in line for line in server.log):
                assert time.monotonic() < deadline, server.log
                time.sleep(0.05)


def test_more_connections_than_threads_get_their_turn(directory: Path) -> None:
    """With two slots, ten clients that keep their connections open are all answered."""
    with served(directory, patience=IMPATIENT, connections=2) as server:
        server.backend().create()
        data = [os.urandom(1000) for _ in range(10)]
        clients = [server.backend() for _ in data]

        def work(number: int) -> bytes:
            clients[number].put(Kind.LOCKS, _name(data[number]), data[number])
            return clients[number].get(Kind.LOCKS, _name(data[number]))

        with ThreadPoolExecutor(10) as threads:
            assert list(threads.map(work, range(10))) == data


def test_the_quota_holds(directory: Path) -> None:
    """What does not fit is refused with 507; room that is freed, also behind the server's back, counts."""
    with served(directory, quota=250_000) as server:
        backend = server.backend()
        backend.create()
        blobs = [os.urandom(100_000) for _ in range(3)]
        backend.put(Kind.DATA, _name(blobs[0]), blobs[0])
        backend.put(Kind.DATA, _name(blobs[1]), blobs[1])
        with pytest.raises(NoSpaceError, match="quota"):
            backend.put(Kind.DATA, _name(blobs[2]), blobs[2])
        assert len(_files(directory)) == 2
        backend.delete(Kind.DATA, _name(blobs[0]))
        backend.put(Kind.DATA, _name(blobs[2]), blobs[2])


def test_a_repository_whose_disk_is_gone_takes_nothing(server: Served, directory: Path) -> None:
    """Where the directories are missing no new ones are made: the disk may not be mounted."""
    for folder in directory.iterdir():
        if folder.name != "data":
            folder.rmdir()
    os.rename(directory / "data", directory.parent / "unmounted")
    assert _send(server, "POST", f"/data/{_name(b'x')}", b"x")[0] == 404
    assert _send(server, "PUT", "/objects/wal/1", b"x")[0] == 404
    assert list(directory.iterdir()) == []


def test_stopping_lets_a_request_end(directory: Path) -> None:
    """An upload in progress is stored and answered; an idle connection is closed at once."""
    data = os.urandom(300_000)
    with served(directory) as server:
        server.backend().create()
        idle = socket.create_connection(server.address, timeout=20)
        busy = socket.create_connection(server.address, timeout=20)
        head = f"POST /data/{_name(data)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        busy.sendall(head.encode() + data[:100])
        time.sleep(0.3)
        late = threading.Timer(0.5, busy.sendall, (data[100:],))
        late.start()
    late.join()
    assert busy.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert idle.recv(10) == b""
    busy.close()
    idle.close()
    assert len(_files(directory)) == 1


def test_a_server_that_is_killed_leaves_a_whole_repository(directory: Path) -> None:
    """kill -9 in an upload: nothing is listed, the upload succeeds later, and its remains go in time."""
    data = os.urandom(2 << 20)
    with program(directory) as (server, child):
        server.backend().create()
        server.close_clients()
        with socket.create_connection(server.address, timeout=20) as sock:
            head = f"POST /data/{_name(data)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
            sock.sendall(head.encode() + data[: 1 << 20])
            deadline = time.monotonic() + 20
            while not _files(directory):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            child.kill()
            child.wait()
    (left,) = _files(directory)
    with served(directory) as again:
        assert list(again.backend().list(Kind.DATA)) == []
        again.backend().put(Kind.DATA, _name(data), data)
        assert len(_files(directory)) == 2
    os.utime(directory / left, (time.time() - 90_000,) * 2)
    with served(directory) as once_more:
        assert once_more.backend().get(Kind.DATA, _name(data)) == data
    assert _files(directory) == [f"data/{_name(data)[:2]}/{_name(data)}"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, ["users", "TLS"]),  # noqa: S104 - refused
        ({"host": "192.0.2.1"}, ["users", "TLS"]),
        ({"host": "backup.example"}, ["users", "TLS"]),
        ({"host": "::"}, ["users", "TLS"]),
        ({"private_repositories": True}, ["users"]),
        ({"certificate": Path("cert.pem")}, ["key"]),
        ({"directory": Path("/no/such/place")}, ["no directory"]),
    ],
)
def test_what_is_unsafe_is_not_started(tmp_path: Path, settings: dict[str, object], words: list[str]) -> None:
    """The server refuses, says what is missing, and gives a hint."""
    options = Options(**{"directory": tmp_path, "port": 0, **settings})  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        Server(options, None, SystemClock(), print)
    assert caught.value.hint
    for word in words:
        assert word in caught.value.message


def test_a_renewed_certificate_is_used(tmp_path: Path, directory: Path) -> None:
    """Without a restart, from the next connection on."""
    first, key = certificate(tmp_path)
    with served(directory, certificate=first, certificate_key=key) as server:
        server.backend(SHEETANCHOR_REST_CACERT=str(first)).create()
        second, second_key = certificate(tmp_path, name="renewed")
        os.replace(second_key, key)
        os.replace(second, first)
        client = server.backend(SHEETANCHOR_REST_CACERT=str(first))
        assert list(client.list(Kind.KEYS)) == []
