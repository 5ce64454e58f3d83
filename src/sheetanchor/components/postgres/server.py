"""The connection to a PostgreSQL server: sessions, what tools are told, errors translated."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sheetanchor.components.postgres.quoting import identifier
from sheetanchor.errors import ComponentError, ConfigError, UnreachableError
from sheetanchor.secret import Secret

Connection = psycopg.Connection[tuple[Any, ...]]

CONNECT_TIMEOUT_SECONDS = 15
TIMEOUTS = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)
TOOL_OPTIONS = (
    "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
    " -c default_transaction_read_only=off"
)


class Server:
    """One server, by its libpq URL. Holds no open connection."""

    def __init__(
        self,
        url: str,
        password: Secret | None,
        *,
        connect: Callable[..., Connection] = psycopg.connect,
    ) -> None:
        try:
            self._parameters = {k: v for k, v in conninfo_to_dict(url).items() if v is not None}
        except psycopg.Error as error:
            raise ConfigError(f"url: {first_line(error)}", hint="see libpq's connection URIs") from error
        self._password = password
        self._connector = connect

    @property
    def host(self) -> str:
        """Host name, address or directory of the socket; "" for libpq's default socket."""
        return str(self._parameters.get("host") or os.environ.get("PGHOST") or "")

    @property
    def database(self) -> str:
        """The database that the URL names; libpq's default is the user's name."""
        return str(self._parameters.get("dbname") or self._parameters.get("user") or "postgres")

    @contextmanager
    def session(self, *databases: str) -> Iterator[Connection]:
        """Connect to the first of `databases` (default: the URL's) that lets us in.

        The session is in autocommit mode, all its time-outs are off, nothing but pg_catalog is
        in its search path, and row security raises an error instead of hiding rows. Raises
        UnreachableError, and ComponentError for what fails inside the `with`.
        """
        connection = self._connect(databases or (self.database,))
        with translated():
            try:
                _settle(connection)
                yield connection
            finally:
                connection.close()

    def _connect(self, databases: Sequence[str]) -> Connection:
        secret = {"password": self._password.reveal()} if self._password else {}
        failure: psycopg.Error | None = None
        for database in databases:
            parameters: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, **self._parameters}
            parameters.update(secret, dbname=database, client_encoding="UTF8")
            try:
                return self._connector(make_conninfo(**parameters), autocommit=True)
            except psycopg.Error as error:
                failure = failure or error
        assert failure is not None
        raise UnreachableError(
            f"PostgreSQL: {first_line(failure)}",
            hint="is the server running, and are url and password_file right?",
        ) from failure

    def target(self, database: str) -> str:
        """Return the `--dbname` argument of a tool: a connection string without any secret."""
        options = " ".join(filter(None, (str(self._parameters.get("options", "")), TOOL_OPTIONS)))
        public: dict[str, Any] = {k: v for k, v in self._parameters.items() if k != "password"}
        public.update(dbname=database, options=options)
        return make_conninfo(**public)

    def environment(self) -> dict[str, str]:
        """Return what a tool gets besides our environment: the password, and English messages."""
        secret = {"PGPASSWORD": self._password.reveal()} if self._password else {}
        return {"LC_MESSAGES": "C", **secret}


def read_password(path: Path | None) -> Secret | None:
    """Read a password file (one line). Raises ConfigError."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the password cannot be read: {error}") from error
    if not text:
        raise ConfigError(f"{path}: the password file is empty")
    return Secret(text)


def execute(connection: Connection, statement: str) -> None:
    """Run one statement made by our own quoting."""
    connection.execute(statement.encode())


def rows(connection: Connection, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Run a query and return all its rows."""
    return connection.execute(query.encode(), list(parameters) or None).fetchall()


def scalar(connection: Connection, query: str, parameters: Sequence[object] = ()) -> Any:
    """Run a query and return the first column of its first row; None where there is none."""
    row = connection.execute(query.encode(), list(parameters) or None).fetchone()
    return row[0] if row else None


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Run a block in one transaction of an autocommit session."""
    with connection.transaction():
        yield


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours: UnreachableError for a lost session, else ComponentError."""
    try:
        yield
    except psycopg.OperationalError as error:
        if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
            raise UnreachableError(f"PostgreSQL: {first_line(error)}") from error
        raise ComponentError(f"PostgreSQL: {first_line(error)}", hint=_detail(error)) from error
    except psycopg.Error as error:
        raise ComponentError(f"PostgreSQL: {first_line(error)}", hint=_detail(error)) from error


def first_line(error: psycopg.Error) -> str:
    """Return the one line of a driver error that says what is wrong."""
    primary = error.diag.message_primary
    lines = str(error).strip().splitlines()
    return primary or (lines[0] if lines else type(error).__name__)


def version_number(connection: Connection) -> int:
    """Return the server's version as 150020 for 15.20."""
    return int(scalar(connection, "SELECT current_setting('server_version_num')"))


def version_text(number: int) -> str:
    """Return 15.20 for 150020."""
    return f"{number // 10000}.{number % 10000}"


def is_superuser(connection: Connection) -> bool:
    """Say whether the session's user is a superuser."""
    return bool(scalar(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))


def database_exists(connection: Connection, name: str) -> bool:
    """Say whether the server has a database of that name."""
    return bool(scalar(connection, "SELECT 1 FROM pg_database WHERE datname = %s", [name]))


def drop_database(connection: Connection, name: str) -> None:
    """Drop a database that may be absent or a template, closing its sessions."""
    if database_exists(connection, name):
        execute(connection, f"ALTER DATABASE {identifier(name)} IS_TEMPLATE false")
    execute(connection, f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")


def _detail(error: psycopg.Error) -> str | None:
    return error.diag.message_hint or error.diag.message_detail


def _settle(connection: Connection) -> None:
    # set_config over pg_settings: a version that lacks one of the time-outs is no error.
    connection.execute(
        "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY(%s)", [list(TIMEOUTS)]
    )
    connection.execute("SET timezone = 'UTC'")
    connection.execute("SET search_path = pg_catalog")
    connection.execute("SET row_security = off")
    connection.execute("SET default_transaction_read_only = off")
