"""Stage: every database of the backup restored beside the live ones, under a name of ours."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sheetanchor.components.base import Context, Source
from sheetanchor.components.postgres.guards import drop_staged_database, refuse_to_drop
from sheetanchor.components.postgres.journal import Hub, Journal, Move, Phase
from sheetanchor.components.postgres.names import GLOBALS_PATH, hub_name, replaced_name, staged_name
from sheetanchor.components.postgres.proof import DatabaseProof, PostgresProof
from sheetanchor.components.postgres.properties import (
    create_statement,
    grant_statements,
    property_statements,
)
from sheetanchor.components.postgres.roles import (
    Roles,
    adapt,
    create_statements,
    membership_statements,
    read_passwords,
    read_roles,
)
from sheetanchor.components.postgres.server import (
    Connection,
    Server,
    drop_database,
    execute,
    rows,
    version_number,
)
from sheetanchor.components.postgres.streams import Reporting, piped
from sheetanchor.components.postgres.tools import Tools
from sheetanchor.errors import ComponentError, PlanRefusedError, ProcessError

ROOM_TO_SPARE_BYTES = 64 << 20
PIECE_BYTES = 1 << 20


class Staging:
    """One stage of one backup on one server."""

    def __init__(self, server: Server, tools: Tools, context: Context, jobs: int, token: str) -> None:
        self._server = server
        self._tools = tools
        self._context = context
        self._jobs = jobs
        self._token = token

    def run(self, source: Source, proof: PostgresProof, *, in_place: bool) -> None:
        """Build all staged databases; a half stage of the same token is thrown away first.

        Raises PlanRefusedError when this token is swapped already, ComponentError when a
        statement or pg_restore fails.
        """
        hub = Hub(self._server, self._token)
        journal = self._begin(hub, proof, in_place=in_place)
        if in_place:
            with hub.inside() as connection:
                refuse_to_drop(connection, [move.name for move in journal.moves])
        self._create_roles(hub, source)
        for database, move in zip(proof.databases, journal.moves, strict=True):
            if in_place:
                with hub.inside() as connection:
                    drop_database(connection, move.name)
            self._fill(hub, source, database, move)
            with hub.inside() as connection:
                _apply_properties(connection, database, move.staged)
        with hub.inside() as connection, connection.transaction():
            hub.save(connection, hub.load(connection).at(Phase.STAGED))

    def _begin(self, hub: Hub, proof: PostgresProof, *, in_place: bool) -> Journal:
        created: tuple[str, ...] = ()
        if hub.exists():
            with hub.inside() as connection:
                earlier = hub.load(connection)
            if earlier.phase not in (Phase.STAGING, Phase.STAGED):
                raise PlanRefusedError(
                    "this restore has replaced the live databases already",
                    hint="finish it with --resume, or take it back with rollback",
                )
            created = earlier.created_roles
        else:
            hub.create()
        moves = tuple(
            Move(
                name=database.name,
                staged=staged_name(self._token, number, database.name),
                replaced=replaced_name(self._token, number, database.name),
            )
            for number, database in enumerate(proof.databases)
        )
        journal = Journal(
            token=self._token,
            phase=Phase.STAGING,
            in_place=in_place,
            moves=moves,
            bootstrap_role=proof.bootstrap_role,
            wanted_roles=proof.roles,
            wanted_memberships=proof.memberships,
            wanted_server_wide=proof.server_wide,
            created_roles=created,
        )
        with hub.inside() as connection:
            hub.save(connection, journal)
        return journal

    def _create_roles(self, hub: Hub, source: Source) -> None:
        """Make missing roles and their memberships, in one transaction with their journal entry.

        Nobody can log in as one of them before the swap.
        """
        with source.open(GLOBALS_PATH) as stream:
            passwords = read_passwords(stream.read().decode("utf-8", "surrogateescape"))
        with hub.inside() as connection, connection.transaction():
            journal = hub.load(connection)
            current = read_roles(connection)
            wanted = wanted_roles(connection, journal, current)
            missing = [role for role in wanted.roles if role.name not in current.by_name]
            # Password hashes do not belong in the server's log.
            execute(connection, "SET LOCAL log_statement = 'none'")
            execute(connection, "SET LOCAL log_min_duration_statement = -1")
            execute(connection, "SET LOCAL log_min_error_statement = 'panic'")
            for role in missing:
                shut = role.model_copy(update={"login": False})
                for statement in create_statements(shut, passwords.get(role.name)):
                    execute(connection, statement)
            new = {role.name for role in missing}
            known = frozenset(current.by_name) | new
            entries = [entry for entry in wanted.memberships if {entry.role, entry.member} & new]
            for statement in membership_statements((), entries, known):
                execute(connection, statement)
            created = tuple(dict.fromkeys((*journal.created_roles, *new)))
            hub.save(connection, journal.model_copy(update={"created_roles": created}))

    def _create_database(self, connection: Connection, database: DatabaseProof, move: Move) -> None:
        drop_staged_database(self._server, connection, move.staged)
        wanted = database.properties.tablespace
        absent = wanted == "pg_default" or wanted in missing_tablespaces(connection, database)
        tablespace = None if absent else wanted
        execute(connection, create_statement(database.properties, move.staged, tablespace=tablespace))
        with self._server.session(move.staged) as inside:
            # template0 holds these two; a dump does not say that the original had dropped them.
            if "public" not in database.schemas:
                execute(inside, "DROP SCHEMA public")
            if not any(extension.name == "plpgsql" for extension in database.extensions):
                execute(inside, "DROP EXTENSION plpgsql")

    def _fill(self, hub: Hub, source: Source, database: DatabaseProof, move: Move) -> None:
        """Create one staged database and restore into it; where several workers fail, with one.

        Seen once in some hundred restores of partitioned tables on PostgreSQL 18: "a worker process
        died unexpectedly", its cause unknown. One worker alone has nobody to collide with.
        """
        for jobs in dict.fromkeys((self._jobs, 1)):
            with hub.inside() as connection:
                self._create_database(connection, database, move)
            try:
                self._restore(source, database, move.staged, jobs)
            except ComponentError as error:
                if jobs == 1:
                    raise
                self._context.listener.warning(
                    f"restore database {database.name}", f"{error.message}; trying again with one worker"
                )
            else:
                return

    def _restore(self, source: Source, database: DatabaseProof, staged: str, jobs: int) -> None:
        argv = [
            self._tools.path("pg_restore"),
            "--exit-on-error",
            f"--dbname={self._server.target(staged)}",
            *self._tablespace_options(database, staged),
        ]
        task = f"restore database {database.name}"
        self._context.listener.started(task, database.dump_bytes)
        try:
            if self._has_room(database.dump_bytes):
                self._restore_from_file([*argv, f"--jobs={jobs}"], source, database, task)
            else:
                self._restore_from_stream(argv, source, database, task)
        except ProcessError as error:
            raise ComponentError(
                f"database {database.name}: {error.message}", hint=error.hint or "see the server's log"
            ) from error
        finally:
            self._context.listener.finished(task)

    def _restore_from_file(self, argv: list[str], source: Source, database: DatabaseProof, task: str) -> None:
        path = staged_dump(self._context, self._token)
        path.unlink(missing_ok=True)
        try:
            with (
                source.open(database.path) as stream,
                os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file,
            ):
                shutil.copyfileobj(Reporting(stream, self._context, task), file, PIECE_BYTES)
            self._context.processes.run([*argv, str(path)], environment=self._server.environment())
        finally:
            path.unlink(missing_ok=True)

    def _restore_from_stream(
        self, argv: list[str], source: Source, database: DatabaseProof, task: str
    ) -> None:
        with source.open(database.path) as stream, piped(Reporting(stream, self._context, task)) as pipe:
            self._context.processes.run(argv, stdin=pipe, environment=self._server.environment())

    def _has_room(self, size: int) -> bool:
        return shutil.disk_usage(self._context.work_directory).free > size + ROOM_TO_SPARE_BYTES

    def _tablespace_options(self, database: DatabaseProof, staged: str) -> list[str]:
        with self._server.session(staged) as connection:
            missing = missing_tablespaces(connection, database)
        if not missing:
            return []
        self._context.listener.warning(
            f"restore database {database.name}",
            f"tablespace {', '.join(missing)} is not on this server: everything goes to the default one",
        )
        return ["--no-tablespaces"]


def staged_dump(context: Context, token: str) -> Path:
    """Return where one dump at a time is put for a parallel pg_restore, which refuses a pipe."""
    return context.work_directory / f"{hub_name(token)}.dump"


def missing_tablespaces(connection: Connection, database: DatabaseProof) -> list[str]:
    """Return the tablespaces that a database used and that this server does not have."""
    present = {row[0] for row in rows(connection, "SELECT spcname FROM pg_tablespace")}
    return sorted({*database.tablespaces, database.properties.tablespace} - present)


def wanted_roles(connection: Connection, journal: Journal, current: Roles) -> Roles:
    """Return the recorded roles, fitted to this server."""
    recorded = Roles(journal.wanted_roles, journal.wanted_memberships, journal.bootstrap_role)
    return adapt(recorded, current, version_number(connection), str(rows(connection, "SELECT user")[0][0]))


def _apply_properties(connection: Connection, database: DatabaseProof, staged: str) -> None:
    for statement in property_statements(database.properties, staged):
        execute(connection, statement)
    for statement in grant_statements(database.properties, staged):
        execute(connection, statement)
