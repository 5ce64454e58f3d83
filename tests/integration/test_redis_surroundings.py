"""Replicas, Sentinel, other products, passwords: what stands around a Redis that is restored."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sheetanchor.components.redis.feed import ReplicationFeed
from sheetanchor.errors import PlanRefusedError
from sheetanchor.secret import Secret
from support.directory_store import DirectorySink, DirectorySource
from support.redis import LiveServer, component, free_port, live_server, programs, state
from support.redis_cases import DATABASES
from support.redis_saved import TOKEN, Saved, save


@pytest.fixture(params=["redis", "valkey"])
def program(request: pytest.FixtureRequest) -> Path:
    """Return the server program of each product."""
    if request.param not in programs():
        pytest.skip("needs the program redis-server (Debian package redis-server)")
    return programs()[request.param]


@pytest.fixture
def saved(program: Path, tmp_path: Path) -> Iterator[Saved]:
    """Run a server with an append-only file and a password."""
    with live_server(program, tmp_path / "live", "appendonly yes", password="open-sesame") as server:
        yield save(server, tmp_path)


def test_replica_is_refused(program: Path, tmp_path: Path) -> None:
    """A replica would lose the data at once: the plan says where to restore instead."""
    with (
        live_server(program, tmp_path / "live") as master,
        live_server(program, tmp_path / "replica", f"replicaof 127.0.0.1 {master.port}") as replica,
    ):
        saved = save(master, tmp_path)
        target = component(replica, tmp_path / "work")
        estimate = target.estimate(saved.source, saved.proof, in_place=False)
        assert any("restore to its master" in refusal for refusal in estimate.refusals)
        with pytest.raises(PlanRefusedError, match="replica"):
            target.stage(saved.source, saved.proof, TOKEN).swap()


def test_replicas_follow_the_restored_master(program: Path, tmp_path: Path) -> None:
    """A live server's own replicas hold the restored data shortly after; the plan mentions them."""
    with (
        live_server(program, tmp_path / "live") as master,
        live_server(program, tmp_path / "replica", f"replicaof 127.0.0.1 {master.port}") as replica,
    ):
        saved = save(master, tmp_path)
        target = component(master, tmp_path / "work")
        _wait_for_replica(master)
        notes = target.estimate(saved.source, saved.proof, in_place=False).all_notes
        assert any("1 replicas will follow" in note for note in notes)
        saved.stage().swap()
        deadline = time.monotonic() + 20
        while state(replica, DATABASES) != saved.before:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _wait_for_replica(master: LiveServer) -> None:
    with master.client() as connection:
        deadline = time.monotonic() + 20
        while connection.info("replication")["connected_slaves"] < 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_sentinel_is_noticed(program: Path, tmp_path: Path) -> None:
    """Sentinel would take the exchange for a failure: the plan is refused while one watches."""
    with live_server(program, tmp_path / "live") as server:
        saved = save(server, tmp_path)
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(
            f"port {free_port()}\ndir {tmp_path}\nsentinel monitor cache 127.0.0.1 {server.port} 1\n"
        )
        sentinel = subprocess.Popen([program, configuration, "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            target = component(server, tmp_path / "work")
            while not any(
                "Sentinel" in refusal
                for refusal in target.estimate(saved.source, saved.proof, in_place=False).refusals
            ):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            sentinel.kill()
            sentinel.wait(10)


def test_plan_refuses_what_cannot_work(saved: Saved) -> None:
    """Too little maxmemory, and data that is newer than the server, are refused beforehand."""
    target = component(saved.server, saved.directory / "work")
    with saved.server.client() as connection:
        connection.config_set("maxmemory", "100kb")
        refusals = target.estimate(saved.source, saved.proof, in_place=False).refusals
        assert any("maxmemory" in refusal for refusal in refusals)
        connection.config_set("maxmemory", 0)
    newer = saved.proof.model_copy(update={"version": "99.0.0"})
    refusals = target.estimate(saved.source, newer, in_place=False).refusals
    assert any("cannot read" in refusal for refusal in refusals)
    changed = saved.now()
    with pytest.raises(PlanRefusedError, match=r"cannot read"):
        target.stage(saved.source, newer, TOKEN).swap()
    assert saved.now() == changed


def test_redis_data_moves_to_valkey(tmp_path: Path) -> None:
    """A backup of Redis 7.0 restores to Valkey; the other way round is refused."""
    if "redis" not in programs():
        pytest.skip("needs the program redis-server (Debian package redis-server)")
    with live_server(programs()["redis"], tmp_path / "redis") as server:
        saved = save(server, tmp_path)
    with live_server(programs()["valkey"], tmp_path / "valkey") as other:
        saved.server = other
        saved.stage().swap()
        assert saved.now() == saved.before
        proof = component(other, tmp_path / "work2").capture(DirectorySink(tmp_path / "store2"))
    with live_server(programs()["redis"], tmp_path / "redis") as server:
        target = component(server, tmp_path / "work3")
        refusals = target.estimate(DirectorySource(tmp_path / "store2"), proof, in_place=False).refusals
        assert any("cannot read the data of Valkey" in refusal for refusal in refusals)


def test_feed_asks_for_the_password(tmp_path: Path) -> None:
    """Nobody else on the machine gets the data while a restore runs."""
    (tmp_path / "x.rdb").write_bytes(b"REDIS0011 and so on")
    feed = ReplicationFeed(
        tmp_path / "x.rdb",
        replication_id="0" * 40,
        username=None,
        password=Secret("right"),
        advanced=lambda _size: None,
    )
    with feed:
        for login, answer in ((b"wrong", b"-WRONGPASS"), (b"right", b"+OK")):
            with socket.create_connection(("127.0.0.1", feed.port), 5) as connection:
                connection.sendall(b"*2\r\n$4\r\nAUTH\r\n$5\r\n" + login + b"\r\n")
                assert connection.recv(100).startswith(answer)
                connection.sendall(b"*1\r\n$4\r\nSYNC\r\n")
                reply = connection.makefile("rb").readline()
                assert reply.startswith(b"$19" if answer == b"+OK" else b"-NOAUTH")
