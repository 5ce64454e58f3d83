"""The disaster: everything that is protected is destroyed, as a careless operator could do it."""

from __future__ import annotations

import shutil

import psycopg
import redis
from psycopg import sql

from sheetanchor.demo.place import Place
from sheetanchor.demo.servers import Servers

_KEPT_DATABASES = ("postgres", "template0", "template1")


def destroy(place: Place, servers: Servers) -> tuple[str, ...]:
    """Drop every database and role, flush the cache, delete the files; return what was done, in words."""
    dropped = _drop_databases_and_roles(servers.postgres_url)
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
        client.function_flush()
    shutil.rmtree(place.volume)
    place.settings.unlink()
    return (*dropped, "FLUSHALL, FUNCTION FLUSH", f"rm -rf {place.volume}", f"rm {place.settings}")


def _drop_databases_and_roles(url: str) -> tuple[str, ...]:
    done = []
    with psycopg.connect(url, autocommit=True) as connection:
        databases = connection.execute(
            "SELECT datname FROM pg_database WHERE NOT datname = ANY(%s) ORDER BY 1", [list(_KEPT_DATABASES)]
        ).fetchall()
        for (name,) in databases:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            done.append(f"DROP DATABASE {name}")
        roles = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname <> current_user AND rolname !~ '^pg_' ORDER BY 1"
        ).fetchall()
        for (name,) in roles:
            role = sql.Identifier(name)
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))
            done.append(f"DROP ROLE {name}")
    return tuple(done)
