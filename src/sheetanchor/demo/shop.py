"""The demonstration's databases: made by SQL, described by what the server itself says of them."""

from __future__ import annotations

from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from sheetanchor.process import ProcessRunner

SHOP, REPORTS = "shop", "Berichte 2024"
SCRIPT = Path(__file__).with_name("shop.sql")

_ROLES = """
CREATE ROLE shop_owner NOLOGIN;
CREATE ROLE shop_app LOGIN PASSWORD 'not a secret: a demonstration' CONNECTION LIMIT 40 IN ROLE shop_owner;
CREATE ROLE shop_reader LOGIN VALID UNTIL '2099-01-01';
ALTER ROLE shop_reader SET statement_timeout = '5s';
"""

_SETTINGS = """
ALTER DATABASE shop SET work_mem = '8MB';
ALTER ROLE shop_app IN DATABASE shop SET search_path = shop, public;
REVOKE CONNECT ON DATABASE shop FROM PUBLIC;
GRANT CONNECT ON DATABASE shop TO shop_app, shop_reader;
COMMENT ON DATABASE shop IS 'the web shop';
"""

_REPORTS = """
CREATE TABLE "Umsatz je Monat" (monat date PRIMARY KEY, umsatz numeric NOT NULL);
INSERT INTO "Umsatz je Monat"
SELECT date '2000-01-01' + n * interval '1 month', n * 1234.56 FROM generate_series(1, 300) n;
GRANT SELECT ON "Umsatz je Monat" TO shop_reader;
"""

_OBJECTS: dict[str, LiteralString] = {
    "tables and columns": """
        SELECT a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid),
               col_description(a.attrelid, a.attnum),
               (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(a.attacl) x)
        FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = attrelid AND d.adnum = attnum
        WHERE c.relnamespace = ANY (:mine) AND attnum > 0 AND NOT attisdropped""",
    "owners and grants": """
        SELECT oid::regclass, relkind, pg_get_userbyid(relowner), relrowsecurity,
               (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(relacl) x)
        FROM pg_class WHERE relnamespace = ANY (:mine)""",
    "constraints": """
        SELECT conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint
        WHERE connamespace = ANY (:mine)""",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname::regnamespace = ANY (:mine)",
    "views": """
        SELECT oid::regclass, pg_get_viewdef(oid) FROM pg_class
        WHERE relkind IN ('v', 'm') AND relnamespace = ANY (:mine)""",
    "functions": """
        SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = ANY (:mine) AND prokind = 'f'""",
    "triggers": """
        SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
        WHERE NOT tgisinternal AND relnamespace = ANY (:mine)""",
    "policies": "SELECT p FROM pg_policies p",
}

_MINE = "ARRAY(SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')"

_CLUSTER = """
    SELECT rolname, rolsuper, rolcanlogin, rolconnlimit, rolpassword, rolvaliduntil,
           (SELECT setconfig FROM pg_db_role_setting WHERE setrole = r.oid AND setdatabase = 0),
           (SELECT array_agg(roleid::regrole::text ORDER BY roleid::regrole::text)
            FROM pg_auth_members WHERE member = r.oid)
    FROM pg_authid r WHERE rolname !~ '^pg_'"""

_DATABASE = """
    SELECT datname, pg_get_userbyid(datdba), datconnlimit, datcollate, datctype,
           pg_encoding_to_char(encoding), shobj_description(oid, 'pg_database'),
           (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(datacl) x),
           (SELECT array_agg(setrole::regrole || setconfig::text ORDER BY setrole::regrole::text)
            FROM pg_db_role_setting WHERE setdatabase = d.oid)
    FROM pg_database d WHERE datname = current_database()"""


def fill(url: str, programs: Path, seed: int) -> None:
    """Make roles and two databases with about 120,000 rows. Raises ProcessError, psycopg.Error."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_ROLES)
        for name in (SHOP, REPORTS):
            statement = sql.SQL("CREATE DATABASE {} OWNER shop_owner").format(sql.Identifier(name))
            connection.execute(statement)
        connection.execute(_SETTINGS)
    argv = [str(programs / "psql"), "--no-psqlrc", "--quiet", "--output=/dev/null", f"--set=seed={seed}"]
    argv += [f"--file={SCRIPT}", f"--dbname={make_conninfo(url, dbname=SHOP)}"]
    ProcessRunner().run(argv, timeout=120)
    with psycopg.connect(url, dbname=REPORTS) as connection:
        connection.execute(_REPORTS)


def fingerprint(url: str) -> dict[str, str]:
    """Describe roles, databases, every table's rows, sequences, large objects and definitions."""
    found: dict[str, str] = {}
    with psycopg.connect(url) as connection:
        found["roles"] = _digest(connection, _query(_CLUSTER))
        databases = [row[0] for row in connection.execute(_OWN_DATABASES)]
    for database in databases:
        with psycopg.connect(url, dbname=database) as connection:
            connection.execute("SET search_path = pg_catalog; SET timezone = 'UTC'")
            described = {
                "settings and grants": _digest(connection, _query(_DATABASE)),
                **_describe(connection),
            }
            found |= {f"{database}: {what}": value for what, value in described.items()}
    return found


_OWN_DATABASES = """
    SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1"""


def _describe(connection: psycopg.Connection) -> dict[str, str]:
    found = {}
    for (name,) in connection.execute(_query(_TABLES)).fetchall():
        rows = sql.SQL("SELECT t FROM {} t").format(sql.SQL(name))
        found[name] = _digest(connection, rows, "rows")
    found["sequences"] = _digest(connection, _query(_SEQUENCES))
    found["large objects"] = _digest(connection, _query(_LARGE_OBJECTS))
    for what, query in _OBJECTS.items():
        found[what] = _digest(connection, _query(query))
    return found


_TABLES = """
    SELECT oid::regclass::text FROM pg_class
    WHERE relkind IN ('r', 'm') AND relnamespace = ANY (:mine) ORDER BY 1"""

_SEQUENCES = """
    SELECT schemaname, sequencename, last_value, increment_by, cache_size, data_type FROM pg_sequences"""

_LARGE_OBJECTS = """
    SELECT oid, pg_get_userbyid(lomowner), md5(lo_get(oid)) FROM pg_largeobject_metadata"""


_HASHED = """
    SELECT count(*), md5(string_agg(h, '' ORDER BY h)) FROM (SELECT md5(q::text) h FROM ({}) q) s"""


def _digest(connection: psycopg.Connection, query: sql.Composable, what: str = "") -> str:
    """Count the rows of a query and hash them in an order of their own."""
    row = connection.execute(sql.SQL(_HASHED).format(query)).fetchone()
    assert row is not None
    count, digest = row
    return f"{count:,} {what} {(digest or 'nothing')[:10]}".replace("  ", " ")


def _query(text: LiteralString) -> sql.SQL:
    return sql.SQL(text.replace(":mine", _MINE))
