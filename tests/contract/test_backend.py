"""The contract of the backend seam: every place for a repository passes the same suite."""

from __future__ import annotations

import hashlib
import itertools
import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.errors import FinalBackendError, ObjectAbsentError, ObjectExistsError
from sheetanchor.repository.backend.base import CONFIG_NAME, Backend, Kind
from sheetanchor.repository.backend.limit import LimitedBackend
from sheetanchor.repository.backend.local import LocalBackend
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.backend.probe import honours_if_absent
from sheetanchor.repository.backend.retry import RetryingBackend, RetryPolicy
from sheetanchor.repository.backend.s3 import S3Backend
from support.rclone import require_rclone
from support.rest_server import rclone_rest, rest_backend, served
from support.s3_server import location, make_bucket, moto_server, rclone_server


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A moto server for all tests; each has its own bucket."""
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An rclone server for all tests; each has its own bucket."""
    with rclone_server(require_rclone(), tmp_path_factory.mktemp("served")) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Our own REST server for all tests; each has its own repository."""
    with served(tmp_path_factory.mktemp("rest")) as server:
        yield server.url


@pytest.fixture(scope="module")
def foreign_rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A REST server of others for all tests; each has its own repository."""
    with rclone_rest(require_rclone(), tmp_path_factory.mktemp("foreign")) as url:
        yield url


def _memory(request: pytest.FixtureRequest, directory: Path) -> Backend:
    return MemoryBackend()


def _local(request: pytest.FixtureRequest, directory: Path) -> Backend:
    return LocalBackend(directory / "repository")


def _retrying(request: pytest.FixtureRequest, directory: Path) -> Backend:
    return RetryingBackend(MemoryBackend(), SystemClock(), random.Random(1))


def _limited(request: pytest.FixtureRequest, directory: Path) -> Backend:
    return LimitedBackend(MemoryBackend(), SystemClock(), 1 << 40)


def _bucket(endpoint: str) -> str:
    bucket = f"bucket-{uuid.uuid4().hex}"
    make_bucket(endpoint, bucket)
    return bucket


def _moto(request: pytest.FixtureRequest, directory: Path) -> Backend:
    endpoint = request.getfixturevalue("moto")
    return S3Backend(location(endpoint, f"{_bucket(endpoint)}/some/prefix"))


def _moto_without_prefix(request: pytest.FixtureRequest, directory: Path) -> Backend:
    endpoint = request.getfixturevalue("moto")
    return S3Backend(location(endpoint, _bucket(endpoint)))


def _rclone(request: pytest.FixtureRequest, directory: Path) -> Backend:
    endpoint = request.getfixturevalue("rclone")
    s3 = S3Backend(location(endpoint, f"{_bucket(endpoint)}/prefix"))
    # rclone answers 500 where several requests make one folder at once.
    return RetryingBackend(s3, SystemClock(), random.Random(1), RetryPolicy(first_delay=0.05))


def _rest(request: pytest.FixtureRequest, directory: Path) -> Backend:
    return rest_backend(f"rest:{request.getfixturevalue('rest')}{uuid.uuid4().hex}/")


def _foreign_rest(request: pytest.FixtureRequest, directory: Path) -> Backend:
    return rest_backend(f"rest:{request.getfixturevalue('foreign_rest')}{uuid.uuid4().hex}/")


PLACES: dict[str, Callable[[pytest.FixtureRequest, Path], Backend]] = {
    "memory": _memory,
    "local": _local,
    "retrying": _retrying,
    "limited": _limited,
    "moto": _moto,
    "moto without prefix": _moto_without_prefix,
    "rclone": _rclone,
    "rest": _rest,
    "foreign rest": _foreign_rest,
}


@pytest.fixture(params=PLACES)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """Each place in turn, made ready."""
    place = PLACES[request.param](request, tmp_path)
    place.create()
    yield place
    place.close()


def _name(data: bytes) -> str:
    """Return the name that an object of a repository has: REST servers compare it with the bytes."""
    return hashlib.sha256(data).hexdigest()


def _kinds(backend: Backend) -> list[Kind]:
    """Return what a place keeps: REST servers of others know nothing of sealed objects."""
    foreign = backend.location.startswith("rest:") and not backend.features.conditional_put
    return [kind for kind in Kind if not (foreign and kind is Kind.OBJECTS)]


def _refuses_sealed_objects(backend: Backend) -> bool:
    """Say whether a place keeps no sealed objects; fails the test when it does not say so either."""
    if Kind.OBJECTS in _kinds(backend):
        return False
    with pytest.raises(FinalBackendError, match="no sealed objects"):
        backend.put(Kind.OBJECTS, "wal/1", b"x")
    return True


def test_what_was_put_is_got(backend: Backend) -> None:
    """Bytes of every kind come back whole and in part, from bytes, bytearray and memoryview alike."""
    data = random.Random(7).randbytes(70_000)
    sources = (data, bytearray(data), memoryview(bytearray(data)))
    for kind, source in zip(_kinds(backend), itertools.cycle(sources), strict=False):
        name = CONFIG_NAME if kind is Kind.CONFIG else _name(data)
        backend.put(kind, name, source)
        assert backend.get(kind, name) == data
        assert backend.get(kind, name, 69_990) == data[69_990:]
        assert backend.get(kind, name, 5, 100) == data[5:105]
        assert backend.get(kind, name, 69_999, 1) == data[-1:]
        assert backend.get(kind, name, 10, 0) == b""
        assert backend.size(kind, name) == 70_000


def test_an_empty_object_is_an_object(backend: Backend) -> None:
    """Nothing stored is not the same as nothing there."""
    backend.put(Kind.LOCKS, _name(b""), b"")
    assert backend.get(Kind.LOCKS, _name(b"")) == b""
    assert backend.size(Kind.LOCKS, _name(b"")) == 0
    assert [found.size for found in backend.list(Kind.LOCKS)] == [0]


def test_the_buffer_may_be_reused_after_a_put(backend: Backend) -> None:
    """The caller's buffer is copied or stored before put returns."""
    buffer = bytearray(b"first " * 5000)
    backend.put(Kind.DATA, _name(b"first " * 5000), memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert backend.get(Kind.DATA, _name(b"first " * 5000)) == b"first " * 5000


def test_absence_is_told(backend: Backend) -> None:
    """Each way to ask for what is not there raises ObjectAbsentError, of any kind."""
    for kind in _kinds(backend):
        name = CONFIG_NAME if kind is Kind.CONFIG else _name(b"absent")
        with pytest.raises(ObjectAbsentError):
            backend.get(kind, name)
        with pytest.raises(ObjectAbsentError):
            backend.get(kind, name, 3, 4)
        with pytest.raises(ObjectAbsentError):
            backend.size(kind, name)


def test_a_range_beyond_the_end_is_a_final_error(backend: Backend) -> None:
    """A short read is never passed on as if it were the bytes asked for."""
    backend.put(Kind.DATA, _name(b"0123456789"), b"0123456789")
    for offset, length in ((5, 6), (0, 11), (10, 1), (100, 5)):
        with pytest.raises(FinalBackendError):
            backend.get(Kind.DATA, _name(b"0123456789"), offset, length)


def test_put_replaces_unless_it_must_not(backend: Backend) -> None:
    """A plain put replaces; with `if_absent` what is there stays as it was."""
    backend.put(Kind.CONFIG, CONFIG_NAME, b"first", if_absent=True)
    with pytest.raises(ObjectExistsError):
        backend.put(Kind.CONFIG, CONFIG_NAME, b"second", if_absent=True)
    assert backend.get(Kind.CONFIG, CONFIG_NAME) == b"first"
    backend.put(Kind.CONFIG, CONFIG_NAME, b"third, and longer")
    assert backend.get(Kind.CONFIG, CONFIG_NAME) == b"third, and longer"


def test_listing_tells_names_and_sizes(backend: Backend) -> None:
    """Each kind lists its own objects and no others; data comes together from its folders."""
    expected: dict[Kind, set[tuple[str, int]]] = {}
    for position, kind in enumerate(_kinds(backend)):
        contents = [bytes([position] * size) for size in range(1, 2 if kind is Kind.CONFIG else 6)]
        named = {CONFIG_NAME if kind is Kind.CONFIG else _name(data): data for data in contents}
        for name, data in named.items():
            backend.put(kind, name, data)
        expected[kind] = {(name, len(data)) for name, data in named.items()}
    for kind, stored in expected.items():
        listed = list(backend.list(kind))
        assert {(found.name, found.size) for found in listed} == stored
        assert len(listed) == len(stored)


def test_listing_tells_when_the_storage_received_an_object(backend: Backend) -> None:
    """`received_at` is an aware time near to now, or None."""
    before = SystemClock().now()
    backend.put(Kind.LOCKS, _name(b"x"), b"x")
    (found,) = backend.list(Kind.LOCKS)
    if found.received_at is not None:
        assert abs((found.received_at - before).total_seconds()) < 60


def test_an_empty_place_lists_nothing(backend: Backend) -> None:
    """A place that was just made is empty, not an error."""
    for kind in _kinds(backend):
        assert list(backend.list(kind)) == []


def test_sealed_objects_have_names_with_folders(backend: Backend) -> None:
    """Objects in folders are stored, listed with their whole names, replaced only when asked, deleted."""
    if _refuses_sealed_objects(backend):
        return
    names = ["plain", "wal/16/000000010000000000000001", "wal/16/000000010000000000000002", "wal/.x_-.y"]
    for size, name in enumerate(names, start=1):
        backend.put(Kind.OBJECTS, name, bytes(size), if_absent=True)
    listed = sorted((found.name, found.size) for found in backend.list(Kind.OBJECTS))
    assert listed == sorted((name, size) for size, name in enumerate(names, start=1))
    with pytest.raises(ObjectExistsError):
        backend.put(Kind.OBJECTS, names[1], b"other", if_absent=True)
    assert backend.get(Kind.OBJECTS, names[1]) == bytes(2)
    backend.put(Kind.OBJECTS, names[1], b"replaced")
    assert backend.get(Kind.OBJECTS, names[1], 2, 3) == b"pla"
    backend.delete(Kind.OBJECTS, names[1])
    backend.delete(Kind.OBJECTS, names[1])
    backend.delete(Kind.OBJECTS, "never/was/there")
    with pytest.raises(ObjectAbsentError):
        backend.size(Kind.OBJECTS, names[1])
    assert {found.name for found in backend.list(Kind.OBJECTS)} == {*names} - {names[1]}
    assert list(backend.list(Kind.LOCKS)) == []


def test_names_that_lead_elsewhere_are_refused(backend: Backend) -> None:
    """No name reaches out of its folder, is hidden from listings, or is longer than storage allows."""
    if _refuses_sealed_objects(backend):
        return
    for name in ("", "..", "a/../b", "./a", "/a", "a/", "a//b", "a b", "a~b", "é", "a\n", "x" * 201):
        for act in (backend.get, backend.size, backend.delete):
            with pytest.raises(FinalBackendError):
                act(Kind.OBJECTS, name)
        with pytest.raises(FinalBackendError):
            backend.put(Kind.OBJECTS, name, b"x")
    assert list(backend.list(Kind.OBJECTS)) == []


def test_delete_can_be_repeated(backend: Backend) -> None:
    """What is deleted is gone; deleting it again is no error."""
    backend.put(Kind.SNAPSHOTS, _name(b"x"), b"x")
    backend.delete(Kind.SNAPSHOTS, _name(b"x"))
    backend.delete(Kind.SNAPSHOTS, _name(b"x"))
    with pytest.raises(ObjectAbsentError):
        backend.get(Kind.SNAPSHOTS, _name(b"x"))
    assert list(backend.list(Kind.SNAPSHOTS)) == []


def test_create_can_be_repeated(backend: Backend) -> None:
    """Making a place ready twice keeps what is in it."""
    backend.put(Kind.KEYS, _name(b"x"), b"x")
    backend.create()
    assert backend.get(Kind.KEYS, _name(b"x")) == b"x"


def test_many_threads_at_once(backend: Backend) -> None:
    """Eight threads put, get and list without disturbing one another."""

    def work(number: int) -> bool:
        data = random.Random(number).randbytes(10_000 + number)
        backend.put(Kind.DATA, _name(data), data)
        return backend.get(Kind.DATA, _name(data)) == data

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(24)))
    assert len(list(backend.list(Kind.DATA))) == 24


def test_of_many_at_once_one_wins(backend: Backend) -> None:
    """Where the storage promises it, exactly one of eight concurrent conditional puts succeeds."""
    if not backend.features.conditional_put:
        unknown = ("s3:http://127.0.0.1", "rest:http://127.0.0.1")
        assert backend.location.startswith(unknown), "only unknown servers may not promise it"
        return

    def attempt(number: int) -> bool:
        try:
            backend.put(Kind.CONFIG, CONFIG_NAME, f"writer {number}".encode(), if_absent=True)
        except ObjectExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, range(8))) == 1


def test_the_location_is_for_people(backend: Backend) -> None:
    """It says where, and holds no secret."""
    assert backend.location
    assert "SECRETSECRET" not in backend.location


def test_the_probe_tells_whether_conditions_hold(backend: Backend) -> None:
    """Each place is told apart by trying, not by its promise; nothing is left behind."""
    if _refuses_sealed_objects(backend):
        return
    server_ignores = backend.location.startswith("s3:") and isinstance(backend, RetryingBackend)
    assert honours_if_absent(backend) is not server_ignores
    assert list(backend.list(Kind.OBJECTS)) == []
