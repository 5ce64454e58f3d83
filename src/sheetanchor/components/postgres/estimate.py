"""What a restore will need, whom it will disturb, and what forbids it; nothing is touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from sheetanchor.components.base import Context, StageEstimate
from sheetanchor.components.postgres.guards import (
    logical_slots,
    prepared_transactions,
    sessions,
    subscriptions,
)
from sheetanchor.components.postgres.names import is_ours
from sheetanchor.components.postgres.proof import PostgresProof
from sheetanchor.components.postgres.roles import Roles, adapt, changed, read_roles, role_statements
from sheetanchor.components.postgres.server import (
    Connection,
    Server,
    is_superuser,
    rows,
    scalar,
    version_number,
    version_text,
)
from sheetanchor.components.postgres.stage import missing_tablespaces

LOCAL_HOSTS = ("", "localhost", "127.0.0.1", "::1")
LISTED = 5


def estimate(
    server: Server,
    connection: Connection,
    proof: PostgresProof,
    data_dir: Path | None,
    context: Context,
    *,
    in_place: bool,
) -> StageEstimate:
    """Compare the proof with the live server, in a session of it."""
    largest = max((database.dump_bytes for database in proof.databases), default=0)
    directory = data_directory(server, connection, data_dir)
    free = shutil.disk_usage(directory).free if directory else None
    disk = sum(database.disk_bytes for database in proof.databases)
    if in_place:
        disk -= _bytes_given_up(connection, proof)
    work = context.work_directory
    shared = directory is not None and os.stat(directory).st_dev == os.stat(work).st_dev
    needed = max(disk, 0) + (largest if shared else 0)
    return StageEstimate(
        needed_bytes=needed,
        free_bytes=free,
        notes=(
            *_disturbances(connection, proof),
            *_missing(connection, proof),
            *_role_notes(connection, proof),
            *_staging_notes(work, largest),
        ),
        remains=tuple(_remains(connection, proof)),
        refusals=(
            *_refusals(connection, proof),
            *(_losses(connection, proof) if in_place else ()),
            *_space(needed, free, in_place=in_place),
        ),
    )


def _space(needed: int, free: int | None, *, in_place: bool) -> Iterator[str]:
    if free is not None and needed > free:
        advice = "" if in_place else "; free space, or use --in-place"
        have = f"{free / 2**20:,.0f} are free"
        yield f"{needed / 2**20:,.0f} MiB are needed beside the live data, {have}{advice}"


def data_directory(server: Server, connection: Connection, configured: Path | None) -> Path | None:
    """Return the server's data directory where it is certain that it is on this machine."""
    if configured is not None and configured.is_dir():
        return configured
    if not (server.host in LOCAL_HOSTS or server.host.startswith("/")):
        return None
    path = Path(str(scalar(connection, "SELECT current_setting('data_directory', true)") or "/nonexistent"))
    port = str(scalar(connection, "SELECT current_setting('port')"))
    try:
        lines = (path / "postmaster.pid").read_text().splitlines()
    except OSError:
        return None
    # A server in a container may name a directory that here belongs to another server.
    started = scalar(connection, "SELECT extract(epoch FROM pg_postmaster_start_time())::bigint")
    same = len(lines) > 3 and lines[3] == port and abs(int(lines[2]) - int(started)) <= 2
    return path if same else None


def _bytes_given_up(connection: Connection, proof: PostgresProof) -> int:
    """Size of the live databases that a restore in place drops as it goes."""
    names = [database.name for database in proof.databases]
    return int(
        scalar(
            connection,
            "SELECT coalesce(sum(pg_database_size(oid)), 0)::bigint FROM pg_database WHERE datname = ANY(%s)",
            [names],
        )
    )


def _refusals(connection: Connection, proof: PostgresProof) -> Iterator[str]:
    names = [database.name for database in proof.databases]
    version = version_number(connection)
    if version // 10000 < proof.major:
        yield (
            f"the backup is of PostgreSQL {version_text(proof.server_version)}, this server is older:"
            f" {version_text(version)}"
        )
    if not is_superuser(connection):
        yield "the user of the URL is no superuser: roles and databases cannot be restored"
    if scalar(connection, "SELECT pg_is_in_recovery()"):
        yield "the server is a standby: restore on the primary"
    for database, gid in prepared_transactions(connection, names):
        yield f"database {database} has the prepared transaction {gid}: commit it or roll it back first"
    available = {row[0] for row in rows(connection, "SELECT name FROM pg_available_extensions")}
    for entry in proof.databases:
        for extension in entry.extensions:
            if extension.name not in available:
                yield f"database {entry.name} needs the extension {extension.name}, not installed here"


def _losses(connection: Connection, proof: PostgresProof) -> Iterator[str]:
    """Yield what a restore in place would drop with a database, and therefore refuses to drop."""
    names = [database.name for database in proof.databases]
    for database, subscription in subscriptions(connection, names) if is_superuser(connection) else ():
        yield f"database {database} has the subscription {subscription}: not in place"
    for database, slot in logical_slots(connection, names):
        yield f"database {database} has the logical slot {slot}: not in place"


def _disturbances(connection: Connection, proof: PostgresProof) -> Iterator[str]:
    names = [database.name for database in proof.databases]
    for database, count in sessions(connection, names):
        yield f"{count} open session{'' if count == 1 else 's'} of database {database} will be closed"


def _remains(connection: Connection, proof: PostgresProof) -> Iterator[str]:
    names = [database.name for database in proof.databases]
    for database, subscription in subscriptions(connection, names) if is_superuser(connection) else ():
        yield (
            f"database {database} has the subscription {subscription}: it stays with the old database and"
            " the restored one is disabled; the old database is not dropped while it has it"
        )
    for database, slot in logical_slots(connection, names):
        yield (
            f"database {database} has the logical slot {slot}: it stays with the old database, its consumer"
            " has to be set up again; the old database is not dropped while it has it"
        )
    for name in sorted(_live(connection) - set(names)):
        if is_ours(name):
            yield f"database {name} is left over from an earlier restore"
        else:
            yield f"database {name} is not in the backup and is left alone"
    for entry in proof.databases:
        for tablespace in missing_tablespaces(connection, entry):
            yield f"tablespace {tablespace} of database {entry.name} is missing: the default one is used"


def _missing(connection: Connection, proof: PostgresProof) -> Iterator[str]:
    for name in sorted({database.name for database in proof.databases} - _live(connection)):
        yield f"database {name} does not exist and will be created"


def _live(connection: Connection) -> set[str]:
    found = rows(connection, "SELECT datname FROM pg_database WHERE datname <> 'template0'")
    return {str(row[0]) for row in found}


def _role_notes(connection: Connection, proof: PostgresProof) -> Iterator[str]:
    current = read_roles(connection)
    recorded = Roles(proof.roles, proof.memberships, proof.bootstrap_role)
    user = str(scalar(connection, "SELECT user"))
    wanted = adapt(recorded, current, version_number(connection), user)
    groups = (
        ("will be created", [role.name for role in wanted.roles if role.name not in current.by_name]),
        ("will be changed (passwords stay)", [role.name for _, role in changed(current, wanted)]),
        ("not in the backup, left alone", sorted(set(current.by_name) - set(wanted.by_name))),
    )
    for what, names in groups:
        if names:
            yield f"roles {what}: {_listed(names)}"
    memberships = [text for text in role_statements(current, wanted) if text.startswith(("GRANT", "REVOKE"))]
    if memberships:
        yield f"memberships of roles will be changed: {_listed(memberships)}"


def _staging_notes(work: Path, largest: int) -> Iterator[str]:
    if shutil.disk_usage(work).free <= largest + (64 << 20):
        yield f"no room in {work} for the largest dump ({largest:,} bytes): it is restored by one process"


def _listed(names: list[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
