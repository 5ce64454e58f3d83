"""Redis and Valkey for the contract of the component seam, filled with every type of key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as client

from sheetanchor.components.base import Component
from sheetanchor.components.redis.component import RedisComponent
from sheetanchor.config.models import RedisConfig
from support.component_cases import ComponentCase, context
from support.redis import LiveServer, live_server, programs, state

DATABASES = (0, 3, 15)
HOUR_MS = 3_600_000
BIG_ELEMENTS = 2500
BINARY = bytes(range(256))
LIBRARY = "#!lua name=shop\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)"


def fill(server: LiveServer) -> None:
    """Put in keys of every type, with and without expiry, big ones and binary ones."""
    for database in DATABASES:
        with server.client(database) as connection:
            _fill_small(connection)
    with server.client(0) as connection:
        _fill_big(connection)
        connection.function_load(LIBRARY)


def fill_field_expiry(server: LiveServer) -> None:
    """Put in hashes whose fields expire by themselves; the server has to know of such."""
    with server.client(0) as connection:
        now = connection.time()[0] * 1000
        connection.hset("fields", mapping={"lasts": "1", "ends": "2", "ends later": "3"})
        connection.execute_command("HPEXPIREAT", "fields", now + HOUR_MS, "FIELDS", 1, "ends")
        connection.execute_command("HPEXPIREAT", "fields", now + 9 * HOUR_MS, "FIELDS", 1, "ends later")
        connection.hset("all fields end", mapping={"a": "1"})
        connection.execute_command("HPEXPIREAT", "all fields end", now + HOUR_MS, "FIELDS", 1, "a")
        connection.hset("many fields", mapping={f"field {number}": "x" * 50 for number in range(3000)})
        connection.execute_command("HPEXPIREAT", "many fields", now + HOUR_MS, "FIELDS", 1, "field 77")


def _fill_small(connection: client.Redis) -> None:
    now = connection.time()[0] * 1000
    with connection.pipeline(transaction=False) as batch:
        for suffix in (b"", b" that expires"):
            batch.set(b"text" + suffix, "grüße")
            batch.set(b"number" + suffix, 42)
            batch.set(b"binary " + BINARY + suffix, BINARY)
            batch.set(b"empty" + suffix, b"")
            batch.rpush(b"list" + suffix, "a", BINARY, "a")
            batch.sadd(b"integers" + suffix, 1, 2, 3)
            batch.sadd(b"set" + suffix, "x", BINARY, "")
            batch.hset(b"hash" + suffix, mapping={"a": "1", BINARY: BINARY, "": ""})
            batch.zadd(b"sorted" + suffix, {"a": 0.1, "b": 1e300, "c": -5, "d": float("inf"), BINARY: 3})
            batch.setbit(b"bits" + suffix, 70_000, 1)
            batch.geoadd(b"places" + suffix, (13.4, 52.5, "Berlin"))
            batch.pfadd(b"seen" + suffix, *range(2000))
            _fill_stream(batch, b"stream" + suffix)
        for number, name in enumerate((b"text", b"list", b"set", b"hash", b"sorted", b"stream", b"seen")):
            batch.pexpireat(name + b" that expires", now + HOUR_MS * (number + 1) + number)
        batch.execute()


def _fill_stream(batch: client.client.Pipeline, name: bytes) -> None:
    for number in range(1, 9):
        batch.xadd(name, {"order": number, BINARY: BINARY}, id=f"{number}-1")
    batch.xdel(name, "8-1")
    batch.xgroup_create(name, "billing", id="0")
    batch.xgroup_create(name, "idle", id="$")
    batch.xreadgroup("billing", "worker-1", {name: ">"}, count=3)
    batch.xreadgroup("billing", "worker-2", {name: ">"}, count=2)
    batch.xack(name, "billing", "1-1")


def member(number: int) -> str:
    """Return an element of the big keys, which take more than one piece to read."""
    return f"member {number} ".ljust(500, "x")


def _fill_big(connection: client.Redis) -> None:
    members = [member(number) for number in range(BIG_ELEMENTS)]
    with connection.pipeline(transaction=False) as batch:
        batch.set("big text", BINARY * 10_000)
        batch.rpush("big list", *members)
        batch.sadd("big set", *members)
        batch.hset("big hash", mapping={name: number for number, name in enumerate(members)})
        batch.zadd("big sorted", {name: number / 7 for number, name in enumerate(members)})
        batch.execute()


@dataclass
class RedisCase:
    """Implements `component_cases.ComponentCase` for one live server."""

    server: LiveServer
    directory: Path

    def component(self) -> Component:
        """Return a new component for the server."""
        config = {"name": "cache", "type": "redis", "url": f"redis://127.0.0.1:{self.server.port}/0"}
        return RedisComponent(RedisConfig.model_validate(config), context(self.directory))

    def change(self) -> None:
        """Add, alter and remove keys, expiries, a whole database and the functions."""
        with self.server.client(15) as connection:
            connection.flushdb()
        with self.server.client(0) as connection:
            connection.set("text", "changed")
            connection.persist("list that expires")
            connection.delete("big hash")
            connection.xadd("stream", {"order": "new"})
            connection.lset("big list", BIG_ELEMENTS // 2, "changed")
            connection.function_flush()
        with self.server.client(5) as connection:
            connection.set("new", "here")

    def describe(self) -> object:
        """Return every key of every database, by the usual client library."""
        with self.server.client() as connection:
            functions = connection.function_list(withcode=True)
        return state(self.server, (*DATABASES, 5)), functions

    def leftovers(self) -> list[str]:
        """Name what is left in the work directory, and settings that were not given back."""
        with self.server.client() as connection:
            settings = connection.config_get("masterauth")
            role = connection.info("replication")["role"]
        changed = [f"{name} is set" for name, value in settings.items() if value]
        return (
            sorted(entry.name for entry in (self.directory / "work").iterdir())
            + changed
            + ([] if role == "master" else [role])
        )

    def tamper(self, token: str) -> None:
        """Change one byte in the middle of the staged file."""
        (staged,) = (self.directory / "work").glob(f"*{token}*/staged.rdb")
        content = bytearray(staged.read_bytes())
        content[len(content) // 2] ^= 1
        staged.write_bytes(content)


@contextmanager
def redis_case(directory: Path) -> Iterator[ComponentCase]:
    """Yield Debian's Redis with an append-only file."""
    if "redis" not in programs():
        pytest.skip("needs the program redis-server (Debian package redis-server)")
    with live_server(programs()["redis"], directory / "live", "appendonly yes") as server:
        fill(server)
        yield RedisCase(server, directory)


@contextmanager
def valkey_case(directory: Path) -> Iterator[ComponentCase]:
    """Yield Valkey, with hash fields that expire."""
    with live_server(programs()["valkey"], directory / "live") as server:
        fill(server)
        fill_field_expiry(server)
        yield RedisCase(server, directory)
