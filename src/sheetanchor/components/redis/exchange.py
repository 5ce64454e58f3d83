"""Replaces all data of a live server by an RDB file, in one full synchronisation.

The server is made a replica of our feed and, once in step, a master again. Until the file has
arrived whole it keeps its old data; its own persistence (RDB, append-only file) is then
rewritten by itself, so that a restart keeps what was restored.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sheetanchor.clock import Clock
from sheetanchor.components.redis.feed import ReplicationFeed
from sheetanchor.components.redis.server import ServerFacts, facts, information, setting
from sheetanchor.components.redis.wire import Wire
from sheetanchor.errors import ComponentError, UnreachableError
from sheetanchor.events import Listener
from sheetanchor.secret import Secret

CONNECT_SECONDS = 15.0
"""A server that can reach us connects at once; writes are held while we wait for it."""
STALL_SECONDS = 60.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Borrowed:
    """Settings of the live server that an exchange changes, as they were before.

    Only settings whose old value is no secret are ever changed.
    """

    password: bool
    """`masterauth` was empty and is set for the exchange."""
    encryption: bool
    """`tls-replication` was on and is off for the exchange."""


def settings_to_borrow(wire: Wire) -> Borrowed:
    """Say which settings an exchange has to change. Raises ComponentError."""
    password = setting(wire, "masterauth")
    if password is None:
        raise ComponentError(
            f"{wire.address}: may not be configured", hint="allow the user CONFIG GET and CONFIG SET"
        )
    return Borrowed(password == "", setting(wire, "tls-replication") == "yes")


def give_back(wire: Wire, borrowed: Borrowed) -> None:
    """Set the borrowed settings back; doing it twice is harmless."""
    if borrowed.password:
        wire.call("CONFIG", "SET", "masterauth", "")
    if borrowed.encryption:
        wire.call("CONFIG", "SET", "tls-replication", "yes")


def exchange(
    wire: Wire, rdb: Path, replication_id: str, borrowed: Borrowed, clock: Clock, listener: Listener
) -> None:
    """Make the server behind `wire` hold exactly `rdb`, as a master.

    Raises ComponentError when the server does not take it: it then holds its old data, and is
    a master again.
    """
    task = f"redis {wire.address}: restore"
    listener.started(task, rdb.stat().st_size)
    try:
        with _settings_borrowed(wire, borrowed) as password:
            user = setting(wire, "masteruser") or None
            with ReplicationFeed(
                rdb,
                replication_id=replication_id,
                username=user,
                password=password,
                advanced=lambda size: listener.advanced(task, size),
            ) as feed:
                _follow(wire, feed, replication_id, clock)
    finally:
        listener.finished(task)
    if facts(wire).previous_replication_id != replication_id:
        raise ComponentError(f"{wire.address}: did not take the data over")


def holds(told: ServerFacts, replication_id: str) -> bool:
    """Say whether a server's data came by the exchange of this replication id."""
    return replication_id in {told.replication_id, told.previous_replication_id}


def release(wire: Wire) -> None:
    """Make a server that a broken exchange left as a replica a master again."""
    wire.call("REPLICAOF", "NO", "ONE")


@contextmanager
def _settings_borrowed(wire: Wire, borrowed: Borrowed) -> Iterator[Secret]:
    password = Secret(secrets.token_hex(24))
    try:
        if borrowed.password:
            wire.call("CONFIG", "SET", "masterauth", password.reveal())
        else:
            password = Secret(setting(wire, "masterauth") or "")
        if borrowed.encryption:
            wire.call("CONFIG", "SET", "tls-replication", "no")
        yield password
    finally:
        give_back(wire, borrowed)


def _follow(wire: Wire, feed: ReplicationFeed, replication_id: str, clock: Clock) -> None:
    wire.call("REPLICAOF", "127.0.0.1", feed.port)
    try:
        _wait_until_in_step(wire, feed, replication_id, clock)
    finally:
        release(wire)


def _wait_until_in_step(wire: Wire, feed: ReplicationFeed, replication_id: str, clock: Clock) -> None:
    seen: tuple[int, str] = (-1, "")
    deadline = clock.monotonic() + CONNECT_SECONDS
    while True:
        told = facts(wire)
        if told.link_up and told.replication_id == replication_id and not told.loading:
            return
        progress = (feed.sent_bytes, information(wire, "persistence").get("loading_loaded_bytes", ""))
        if progress != seen:
            limit = STALL_SECONDS if feed.sent_bytes else CONNECT_SECONDS
            seen, deadline = progress, clock.monotonic() + limit
        elif clock.monotonic() > deadline:
            raise UnreachableError(
                f"{wire.address}: did not fetch the data from us: {feed.failure or 'no connection came'}",
                hint="the server must reach 127.0.0.1 of this machine: run this beside it, in its network",
            )
        clock.sleep(POLL_SECONDS)
