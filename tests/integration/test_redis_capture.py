"""What a capture of a real Redis or Valkey holds, proves, refuses and survives."""

from __future__ import annotations

import io
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis as client

from sheetanchor.components.redis.address import Address
from sheetanchor.components.redis.component import RedisComponent
from sheetanchor.components.redis.digest import Contents, contents
from sheetanchor.components.redis.proof import ItemSum, RedisProof
from sheetanchor.components.redis.wire import Wire
from sheetanchor.errors import ComponentError, ProofMismatchError, ToolError, UnreachableError
from support.directory_store import DirectorySink, DirectorySource
from support.redis import LiveServer, component, live_server, programs, state
from support.redis_cases import BIG_ELEMENTS, DATABASES, fill, member

HOUR_MS = 3_600_000


@pytest.fixture(params=["redis", "valkey"])
def program(request: pytest.FixtureRequest) -> Path:
    """Return the server program of each product."""
    if request.param not in programs():
        pytest.skip("needs the program redis-server (Debian package redis-server)")
    return programs()[request.param]


@pytest.fixture
def server(program: Path, tmp_path: Path) -> Iterator[LiveServer]:
    """Run an empty server of each product."""
    with live_server(program, tmp_path / "live") as running:
        yield running


def capture(server: LiveServer, directory: Path, **options: object) -> RedisProof:
    """Capture into `directory`/store."""
    return component(server, directory / "work", **options).capture(DirectorySink(directory / "store"))


def held(server: LiveServer) -> Contents:
    """Return what the server holds, in our own terms."""
    with Wire(Address(port=server.port)) as wire:
        return contents(wire, reference_ms=0)


CHANGES: dict[str, Callable[[client.Redis], object]] = {
    "string": lambda c: c.set("text", "grüßE"),
    "big string": lambda c: c.setrange("big text", 2_000_000, b"!"),
    "list order": lambda c: (c.lset("list", 0, bytes(range(256))), c.lset("list", 1, "a")),
    "big list": lambda c: c.lset("big list", BIG_ELEMENTS - 1, "x"),
    "set": lambda c: (c.srem("set", "x"), c.sadd("set", "y")),
    "big set": lambda c: (c.srem("big set", member(7)), c.sadd("big set", "y")),
    "hash value": lambda c: c.hset("hash", "a", "2"),
    "hash swap": lambda c: c.hset("hash", mapping={"a": "", "": "1"}),
    "big hash": lambda c: c.hset("big hash", member(BIG_ELEMENTS - 1), "x"),
    "score": lambda c: c.zadd("sorted", {"a": 0.1000000000000001}),
    "big sorted": lambda c: c.zincrby("big sorted", 1e-9, member(5)),
    "stream entry": lambda c: c.xadd("stream", {"a": "b"}, id="9-1"),
    "stream group": lambda c: c.xgroup_setid("stream", "idle", "1-1"),
    "stream pending": lambda c: c.xack("stream", "billing", "2-1"),
    "stream consumer": lambda c: c.xgroup_createconsumer("stream", "billing", "worker-3"),
    "expiry by 1 ms": lambda c: c.pexpireat("text that expires", c.pexpiretime("text that expires") + 1),
    "expiry gone": lambda c: c.persist("text that expires"),
    "expiry new": lambda c: c.pexpire("text", HOUR_MS),
    "other database": lambda c: c.move("seen", 7),
    "type": lambda c: (c.delete("text"), c.rpush("text", "grüße")),
    "empty to missing": lambda c: c.delete("empty"),
    "function": lambda c: c.function_delete("shop"),
}


def test_any_change_of_a_value_changes_the_digest(server: LiveServer) -> None:
    """No change of value, order, score, expiry, database, type or group state goes unseen."""
    fill(server)
    seen = [_values(held(server))]
    assert _values(held(server)) == seen[0], "reading twice gives the same"
    with server.client() as connection:
        for name, change in CHANGES.items():
            change(connection)
            now = _values(held(server))
            assert now not in seen, name
            seen.append(now)


def _values(found: Contents) -> tuple[object, ...]:
    return found.lasting, found.expiring, found.functions


def test_field_expiry_is_part_of_the_digest(tmp_path: Path) -> None:
    """A hash field's own expiry counts, in small hashes and in big ones."""
    with live_server(programs()["valkey"], tmp_path / "live") as server, server.client() as connection:
        connection.hset("small", mapping={"a": "1", "b": "2"})
        connection.hset("big", mapping={f"field {number}": "x" * 40 for number in range(3000)})
        seen = [_values(held(server))]
        for name in ("small", "big"):
            for moment in (2_000_000_000_000, 2_000_000_000_001):
                field = "a" if name == "small" else "field 2999"
                connection.hpexpireat(name, moment, field)
                now = _values(held(server))
                assert now not in seen
                seen.append(now)


def test_digest_does_not_depend_on_the_encoding(tmp_path: Path) -> None:
    """The same values, kept as compact lists or as tables, by Redis or Valkey, count as equal."""
    found = []
    for name, program in programs().items():
        for settings in (
            (),
            ("hash-max-listpack-entries 0", "set-max-intset-entries 0", "zset-max-listpack-entries 0"),
        ):
            with live_server(program, tmp_path / f"{name}{len(settings)}", *settings) as server:
                with server.client() as connection:
                    connection.hset("hash", mapping={str(number): number for number in range(50)})
                    connection.sadd("set", *range(50))
                    connection.zadd("sorted", {str(number): number / 3 for number in range(50)})
                found.append(held(server).lasting)
    assert len(set(found)) == 1


def test_capture_needs_a_password(program: Path, tmp_path: Path) -> None:
    """With the password it works; without, or with a wrong one, the error says so in one line."""
    with live_server(program, tmp_path / "live", password="open-sesame") as server:
        with server.client() as connection:
            connection.set("key", "value")
        assert capture(server, tmp_path).keys == 1
        wrong = tmp_path / "wrong"
        wrong.write_text("wrong")
        for options in ({"password_file": wrong}, {"password_file": None}):
            with pytest.raises(UnreachableError, match=r"WRONGPASS|NOAUTH") as caught:
                capture(server, tmp_path, **options)
            assert "password_file" in (caught.value.hint or "")
            assert "wrong" not in caught.value.message.replace("WRONGPASS", "").replace("wrong password", "")


def test_capture_by_a_restricted_user(program: Path, tmp_path: Path) -> None:
    """A user with INFO, REPLCONF and SYNC is enough to take a backup."""
    with live_server(program, tmp_path / "live") as server, server.client() as connection:
        fill(server)
        connection.execute_command(
            "ACL", "SETUSER", "backup", "on", ">secret", "-@all", "+info", "+replconf", "+sync", "+psync"
        )
        (tmp_path / "password").write_text("secret")
        options = {"username": "backup", "password_file": tmp_path / "password"}
        proof = capture(server, tmp_path, **options)
        assert proof.keys == sum(connection.info("keyspace")[f"db{index}"]["keys"] for index in DATABASES)


def test_capture_from_disk_where_replication_is_refused(program: Path, tmp_path: Path) -> None:
    """A user who may BGSAVE but not replicate is served from the server's own file."""
    with live_server(program, tmp_path / "live") as server, server.client() as connection:
        fill(server)
        connection.execute_command("BGSAVE")
        allowed = ["+info", "+bgsave", "+config|get"]
        connection.execute_command("ACL", "SETUSER", "backup", "on", ">secret", "-@all", *allowed)
        connection.set("written", "after the first save began")
        (tmp_path / "password").write_text("secret")
        options = {"username": "backup", "password_file": tmp_path / "password"}
        proof = capture(server, tmp_path, **options)
        assert proof.lasting == held_lasting(server)
        connection.execute_command("ACL", "SETUSER", "backup", "-bgsave", "-config|get")
        with pytest.raises(ComponentError, match="NOPERM") as caught:
            capture(server, tmp_path, **options)
        assert "SYNC" in (caught.value.hint or "")


def held_lasting(server: LiveServer) -> object:
    """Return the sum over keys without expiry, as the proof's model."""
    return ItemSum.of(held(server).lasting)


def test_capture_does_not_change_the_server(server: LiveServer) -> None:
    """No setting, no role and no replica is left behind."""
    fill(server)
    with server.client() as connection:
        before = connection.config_get("*"), connection.info("replication")["role"]
        capture(server, server.directory.parent)
        assert (connection.config_get("*"), connection.info("replication")["role"]) == before
        deadline = time.monotonic() + 10
        while connection.info("replication")["connected_slaves"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_unchanged_server_gives_nearly_the_same_bytes(server: LiveServer, tmp_path: Path) -> None:
    """Two captures of an unchanged server differ in a few header bytes, so that they deduplicate."""
    fill(server)
    files = []
    for number in (1, 2):
        capture(server, tmp_path / str(number))
        files.append((tmp_path / str(number) / "store" / "dump.rdb").read_bytes())
    differing = sum(one != other for one, other in zip(*files, strict=True))
    assert differing < 64


def test_captured_file_starts_a_stock_server(server: LiveServer, tmp_path: Path) -> None:
    """Without us: put dump.rdb into the directory of a plain server and start it."""
    fill(server)
    before = state(server, DATABASES)
    capture(server, tmp_path)
    stock = tmp_path / "stock"
    stock.mkdir()
    shutil.copy(tmp_path / "store" / "dump.rdb", stock)
    with live_server(server.program, stock) as other:
        assert state(other, DATABASES) == before


def test_empty_server_is_captured_as_empty(server: LiveServer, tmp_path: Path) -> None:
    """An empty server is no error, and its proof is one that other contents do not pass."""
    proof = capture(server, tmp_path)
    assert (proof.keys, proof.databases) == (0, ())
    staged = component(server, tmp_path / "work").stage(DirectorySource(tmp_path / "store"), proof, "t")
    assert staged.verify(proof)
    with server.client() as connection:
        connection.set("key", "value")
    other = capture(server, tmp_path / "other")
    with pytest.raises(ProofMismatchError):
        staged.verify(other)


def test_keys_that_expire_before_the_restore_are_no_difference(server: LiveServer, tmp_path: Path) -> None:
    """They are in the file, are named as expired, and everything else is still compared."""
    with server.client() as connection:
        for number in range(20):
            connection.set(f"soon {number}", "x", px=2500 + number)
            connection.set(f"later {number}", "x", ex=7200 + number)
            connection.set(f"always {number}", "x")
    proof = capture(server, tmp_path)
    time.sleep(3)
    staged = component(server, tmp_path / "work").stage(DirectorySource(tmp_path / "store"), proof, "t")
    said = "; ".join(staged.verify(proof))
    assert "20 keys without expiry equal" in said
    assert "20 keys and hash fields with expiry equal" in said
    assert "20 keys and hash fields have expired since the backup" in said
    staged.swap()
    with server.client() as connection:
        assert connection.dbsize() == 40


def test_server_that_is_down(tmp_path: Path) -> None:
    """One line that names the address, and a hint."""
    server = LiveServer(programs()["valkey"], tmp_path / "live", port=1)
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1: cannot connect") as caught:
        component(server, tmp_path / "work").check()
    assert caught.value.hint


def test_server_killed_in_the_middle_of_a_capture(server: LiveServer, tmp_path: Path) -> None:
    """The capture ends with an error, stores nothing and leaves no file behind."""
    fill(server)
    with server.client() as connection:
        connection.config_set("rdb-key-save-delay", 20_000)
    threading.Timer(0.7, server.kill).start()
    with pytest.raises(UnreachableError, match="the connection broke while it sent its data"):
        capture(server, tmp_path)
    assert not (tmp_path / "store" / "dump.rdb").exists()
    assert list((tmp_path / "work").iterdir()) == []


def test_cluster_node_is_refused(program: Path, tmp_path: Path) -> None:
    """A node of a cluster holds a part of the data: no backup that looks whole is made of it."""
    with (
        live_server(program, tmp_path / "live", "cluster-enabled yes") as server,
        pytest.raises(ToolError, match="cluster mode"),
    ):
        capture(server, tmp_path)


def test_missing_server_program(server: LiveServer, tmp_path: Path) -> None:
    """A program that is none is named, before anything else is done."""
    with pytest.raises(ToolError, match="false"):
        component(server, tmp_path / "work", server_program="/bin/false").check()


def test_imported_file_is_proven_like_a_capture(server: LiveServer, tmp_path: Path) -> None:
    """A file that loads gets the proof that a capture gives; one that does not is refused."""
    fill(server)
    proof = capture(server, tmp_path)
    content = (tmp_path / "store" / "dump.rdb").read_bytes()
    mine = component(server, tmp_path / "work")
    imported = mine.import_stream(io.BytesIO(content), DirectorySink(tmp_path / "imported"))
    assert imported.content() == proof.content()
    assert (imported.product, imported.version) == (proof.product, proof.version)
    spoilt = {"cut off": content[:-50], "no RDB": b"hello" * 100, "empty": b"", "changed": _flipped(content)}
    for name, data in spoilt.items():
        with pytest.raises(ComponentError):
            mine.import_stream(io.BytesIO(data), DirectorySink(tmp_path / name))
        assert not (tmp_path / name / "dump.rdb").exists(), name
    assert list((tmp_path / "work").iterdir()) == []


def _flipped(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(content) // 2] ^= 4
    return bytes(changed)


def test_component_satisfies_the_seam(tmp_path: Path) -> None:
    """The class has the attributes that operations rely on."""
    server = LiveServer(programs()["valkey"], tmp_path / "live", port=1)
    made = component(server, tmp_path / "work")
    assert isinstance(made, RedisComponent)
    assert (made.kind, made.name, made.proof_model) == ("redis", "cache", RedisProof)
