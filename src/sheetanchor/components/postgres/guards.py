"""What must not be dropped silently: subscriptions, logical slots, prepared transactions.

DROP DATABASE … WITH (FORCE) deletes idle logical slots without a word, and a subscription blocks it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sheetanchor.components.postgres.quoting import identifier
from sheetanchor.components.postgres.server import (
    Connection,
    Server,
    database_exists,
    drop_database,
    execute,
    rows,
)
from sheetanchor.errors import ComponentError


def subscriptions(connection: Connection, databases: Sequence[str]) -> list[tuple[str, str]]:
    """Return (database, subscription) pairs of the databases. Needs a superuser."""
    found = rows(
        connection,
        "SELECT d.datname, s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
        " WHERE d.datname = ANY(%s) ORDER BY 1, 2",
        [list(databases)],
    )
    return [(str(row[0]), str(row[1])) for row in found]


def logical_slots(connection: Connection, databases: Sequence[str]) -> list[tuple[str, str]]:
    """Return (database, slot) pairs of the databases."""
    found = rows(
        connection,
        "SELECT database, slot_name FROM pg_replication_slots WHERE database = ANY(%s) ORDER BY 1, 2",
        [list(databases)],
    )
    return [(str(row[0]), str(row[1])) for row in found]


def prepared_transactions(connection: Connection, databases: Sequence[str]) -> list[tuple[str, str]]:
    """Return (database, transaction) pairs; such a database cannot be renamed."""
    found = rows(
        connection,
        "SELECT database, gid FROM pg_prepared_xacts WHERE database = ANY(%s) ORDER BY 1, 2",
        [list(databases)],
    )
    return [(str(row[0]), str(row[1])) for row in found]


def sessions(connection: Connection, databases: Sequence[str]) -> list[tuple[str, int]]:
    """Return (database, number of other client sessions) of the databases that have any."""
    found = rows(
        connection,
        "SELECT datname, count(*) FROM pg_stat_activity WHERE datname = ANY(%s)"
        " AND pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker' GROUP BY 1 ORDER BY 1",
        [list(databases)],
    )
    return [(str(row[0]), int(row[1])) for row in found]


def refuse_to_drop(connection: Connection, databases: Sequence[str]) -> None:
    """Refuse to go on where dropping one of the databases would lose replication. Raises ComponentError."""
    for database, subscription in subscriptions(connection, databases):
        raise ComponentError(
            f"database {database} has the subscription {subscription} and is not dropped",
            hint=f"in {database}: ALTER SUBSCRIPTION {identifier(subscription)} DISABLE; ALTER SUBSCRIPTION"
            f" {identifier(subscription)} SET (slot_name = NONE); DROP SUBSCRIPTION"
            f" {identifier(subscription)}; (the publisher keeps its slot; a database that accepts no"
            " connections needs ALTER DATABASE … ALLOW_CONNECTIONS true first)",
        )
    for database, slot in logical_slots(connection, databases):
        raise ComponentError(
            f"database {database} has the logical replication slot {slot} and is not dropped",
            hint=f"when its consumer no longer needs it: SELECT pg_drop_replication_slot('{slot}')",
        )


def drop_staged_database(server: Server, connection: Connection, name: str) -> None:
    """Drop a database that a restore made and that was never live, with its own subscriptions.

    pg_restore makes subscriptions without connecting them; detaching one before it is dropped
    keeps it from removing the slot that the live database's subscription uses.
    """
    if not database_exists(connection, name):
        return
    owned = subscriptions(connection, [name])
    if owned:
        execute(connection, f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS true")
        with server.session(name) as inside:
            for _, subscription in owned:
                execute(inside, f"ALTER SUBSCRIPTION {identifier(subscription)} DISABLE")
                execute(inside, f"ALTER SUBSCRIPTION {identifier(subscription)} SET (slot_name = NONE)")
                execute(inside, f"DROP SUBSCRIPTION {identifier(subscription)}")
    drop_database(connection, name)
