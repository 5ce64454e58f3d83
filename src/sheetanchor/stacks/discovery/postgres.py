"""Finds PostgreSQL servers: where libpq's environment points, at unix sockets, on the usual port."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sheetanchor.stacks.base import Discovered
from sheetanchor.stacks.discovery.wire import exchange

SOCKET_DIRECTORIES = (Path("/var/run/postgresql"), Path("/tmp"))  # noqa: S108 - where libpq looks, too
DEFAULT_PORT = 5432
SOCKET_PREFIX = ".s.PGSQL."
SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""PostgreSQL, "Message Formats", SSLRequest: answered by one byte before any login."""


@dataclass(frozen=True)
class Place:
    """Where a server may be; `host` is a name, an address or a socket's directory."""

    host: str
    port: int

    @property
    def is_socket(self) -> bool:
        """Say whether it is reached by a unix socket."""
        return self.host.startswith("/")

    def answers(self) -> bool:
        """Say whether a PostgreSQL server is there, logged in or not."""
        address: tuple[str, int] | Path = (self.host, self.port)
        if self.is_socket:
            address = Path(self.host) / f"{SOCKET_PREFIX}{self.port}"
        return exchange(address, SSL_REQUEST, 1) in {b"S", b"N"}

    def url(self, user: str) -> str:
        """Return the libpq URL, without a password."""
        name = quote(user, safe="")
        if self.is_socket:
            return f"postgresql://{name}@/postgres?host={quote(self.host)}&port={self.port}"
        return f"postgresql://{name}@{self.host}:{self.port}/postgres"


def find(
    environment: Mapping[str, str], *, directories: Sequence[Path] = SOCKET_DIRECTORIES
) -> list[Discovered]:
    """Return the servers that answer, with what a login tells about them."""
    user = environment.get("PGUSER") or "postgres"
    found: dict[int, Discovered] = {}
    for place in _places(environment, directories):
        if place.port not in found and place.answers():
            name = "postgres" if not found else f"postgres-{place.port}"
            found[place.port] = Discovered(
                name=name,
                type="postgres",
                place="local",
                facts=_facts(place, user),
                settings=(("url", place.url(user)),),
            )
    return list(found.values())


def _places(environment: Mapping[str, str], directories: Sequence[Path]) -> Iterator[Place]:
    port = environment.get("PGPORT", "")
    wanted = int(port) if port.isdigit() else DEFAULT_PORT
    if host := environment.get("PGHOST"):
        yield Place(host, wanted)
    # TCP before the sockets: peer authentication rarely lets root in as postgres, a password does.
    yield Place("127.0.0.1", wanted)
    for directory in directories:
        if directory.is_dir():
            for socket in sorted(directory.glob(f"{SOCKET_PREFIX}*")):
                number = socket.name.removeprefix(SOCKET_PREFIX)
                if number.isdigit():
                    yield Place(str(directory), int(number))


def _facts(place: Place, user: str) -> tuple[str, ...]:
    import psycopg

    try:
        with psycopg.connect(
            host=place.host, port=place.port, user=user, dbname="postgres", connect_timeout=3
        ) as connection:
            row = connection.execute(
                "SELECT current_setting('server_version'), count(*),"
                " (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
                " FROM pg_database WHERE datallowconn AND NOT datistemplate"
            ).fetchone()
    except psycopg.Error as error:
        cause = str(error).strip().splitlines()[-1]
        return (
            f"answers, but the login as {user} failed: {cause}",
            "set password_file, or another user in url",
        )
    assert row is not None
    version, databases, superuser = row
    facts = [f"PostgreSQL {version}", f"{databases} databases" if databases != 1 else "1 database"]
    return (*facts, *(() if superuser else (f"{user} is no superuser: a backup of everything needs one",)))
