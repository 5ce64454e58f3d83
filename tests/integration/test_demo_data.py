"""The demonstration's own servers and data: real, deterministic, and fully described."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from sheetanchor.clock import SystemClock
from sheetanchor.components.base import Context
from sheetanchor.components.redis.component import RedisComponent
from sheetanchor.config.models import RedisConfig
from sheetanchor.demo import data, servers, uploads
from sheetanchor.events import SilentListener
from sheetanchor.process import ProcessRunner
from support.directory_store import DirectorySink, DirectorySource


def _change_row(running: servers.Servers, volume: Path) -> str:
    with psycopg.connect(running.postgres_url, dbname="shop") as connection:
        connection.execute("UPDATE shop.customers SET name = name || '.' WHERE id = 4711")
    return "postgres shop: shop.customers"


def _change_grant(running: servers.Servers, volume: Path) -> str:
    with psycopg.connect(running.postgres_url, dbname="shop") as connection:
        connection.execute("REVOKE UPDATE ON shop.orders FROM shop_app")
    return "postgres shop: owners and grants"


def _change_sequence(running: servers.Servers, volume: Path) -> str:
    with psycopg.connect(running.postgres_url, dbname="shop") as connection:
        connection.execute("SELECT nextval('shop.order_number')")
    return "postgres shop: sequences"


def _change_large_object(running: servers.Servers, volume: Path) -> str:
    with psycopg.connect(running.postgres_url, dbname="shop") as connection:
        connection.execute("SELECT lo_put(photo, 5, 'x') FROM shop.products WHERE photo IS NOT NULL LIMIT 1")
    return "postgres shop: large objects"


def _change_role(running: servers.Servers, volume: Path) -> str:
    with psycopg.connect(running.postgres_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE shop_reader CONNECTION LIMIT 3")
    return "postgres roles"


def _change_key(running: servers.Servers, volume: Path) -> str:
    with redis.Redis.from_url(running.redis_url) as client:
        client.lset("mail", 2500, "changed")
    return "redis the server's own digest"


def _change_expiry(running: servers.Servers, volume: Path) -> str:
    with redis.Redis.from_url(running.redis_url) as client:
        client.pexpireat("page:1", client.pexpiretime("page:1") + 1)
    return "redis values and expiries"


def _change_mode(running: servers.Servers, volume: Path) -> str:
    (volume / "empty").chmod(0o700)
    return "uploads names, metadata, contents"


CHANGES: tuple[Callable[[servers.Servers, Path], str], ...] = (
    _change_row,
    _change_grant,
    _change_sequence,
    _change_large_object,
    _change_role,
    _change_key,
    _change_expiry,
    _change_mode,
)


@pytest.mark.slow
def test_fingerprint_sees_every_change_and_a_restore(tmp_path: Path) -> None:
    """Reading twice gives the same; each small change is seen; a cache that was restored is equal."""
    running = servers.start(tmp_path / "servers")
    volume = tmp_path / "uploads"
    try:
        assert servers.start(tmp_path / "servers") == running, "starting twice is no error"
        data.fill(running, volume)
        before = data.fingerprint(running, volume)
        assert data.fingerprint(running, volume) == before
        _flush_and_restore_cache(running, tmp_path)
        assert data.fingerprint(running, volume) == before
        names = {change(running, volume) for change in CHANGES}
        after = data.fingerprint(running, volume)
        assert names <= {name for name in before if after[name] != before[name]}
        assert servers.stop(tmp_path / "servers")
        assert not servers.stop(tmp_path / "servers")
        assert servers.start(tmp_path / "servers") == running
        assert data.fingerprint(running, volume) == after, "the data survives a restart"
    finally:
        servers.stop(tmp_path / "servers")


def _flush_and_restore_cache(running: servers.Servers, directory: Path) -> None:
    """Back up the cache, which listens on a Unix socket only, flush it and bring it back."""
    config = RedisConfig.model_validate({"name": "cache", "type": "redis", "url": running.redis_url})
    context = Context(ProcessRunner(), SystemClock(), SilentListener(), directory / "work")
    component = RedisComponent(config, context)
    proof = component.capture(DirectorySink(directory / "store"))
    with redis.Redis.from_url(running.redis_url) as client:
        client.flushall()
        client.function_flush()
    source = DirectorySource(directory / "store")
    assert component.estimate(source, proof, in_place=False).refusals == ()
    staged = component.stage(source, proof, "token")
    staged.verify(proof)
    staged.swap()
    staged.discard()


@pytest.mark.slow
def test_files_are_deterministic(tmp_path: Path) -> None:
    """The same seed makes the same tree; another seed another one."""
    found = []
    for place, seed in (("one", 1), ("two", 1), ("three", 2)):
        uploads.fill(tmp_path / place, seed)
        found.append(uploads.fingerprint(tmp_path / place))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_fingerprint_of_nothing(tmp_path: Path) -> None:
    """A tree that is gone is described as gone."""
    assert uploads.fingerprint(tmp_path / "nowhere") == {"uploads": "no such directory"}
    assert os.listdir(tmp_path) == []
