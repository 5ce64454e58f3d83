"""The scanner and the policy for SQL from elsewhere: what passes, what is refused, and at which line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheetanchor.components.postgres.sandbox import checked, read_head
from sheetanchor.components.postgres.sql_scanner import SqlScanner, Statement
from sheetanchor.errors import ArchiveError, HostileArchiveError

END = "--\n-- PostgreSQL database dump complete\n--\n"
TOKEN = "t0ken"


def run(script: str, *, end: str = END) -> bytes:
    """Check a script and return what psql would be given."""
    lines = (script + end).encode().splitlines(keepends=True)
    return b"".join(checked(lines, TOKEN, "postgres"))


GOOD = [
    "SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n",
    "SELECT pg_catalog.set_config('search_path', '', false);\n",
    "SELECT pg_catalog.setval('public.s', 5, true);\n",
    "CREATE TABLE t (a text DEFAULT 'x; \\! rm');\n",
    'CREATE TABLE "a;\\! b" ("c""\\d" int);\n',
    "COPY public.t (a, b) FROM stdin;\n\\\\! not a command\tx\n\\N\tCOPY t FROM PROGRAM 'x'\n\\.\n"
    "SET a = 1;\n",
    "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $_$ BEGIN; DO $$x$$; \\! x\nEND $_$;\n",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql\nBEGIN ATOMIC\n SELECT 1;\n"
    " SELECT CASE WHEN true THEN 2 END;\nEND;\n",
    "CREATE RULE r AS ON INSERT TO t DO ALSO ( DELETE FROM a;\n INSERT INTO b VALUES (1);\n);\n",
    "COMMENT ON TABLE t IS 'it''s\n\\! in a string;\n';\n",
    "INSERT INTO t VALUES (E'a\\'b\\\\', 'c\\');\n",
    "-- a comment with ' and \\! and $$\nSET a = 1;\n",
    "/* nested /* ' */ \\! */ SET a = 1;\n",
    "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (connect = false, slot_name = 's');\n",
    "GRANT pg_execute_server_program TO app;\n",
]


@pytest.mark.parametrize("script", GOOD)
def test_what_dumps_hold_passes_unchanged(script: str) -> None:
    """Everything pg_dump may write goes through byte for byte, whatever stands inside its quotes."""
    assert run(script) == (script + END).encode()


HOSTILE = [
    ("\\! touch /tmp/x\n", 1),
    ("SET a = 1;\n\\i /etc/passwd\n", 2),
    ("SET a = 1; \\! id\n", 1),
    ("SELECT 1 \\g | id\n", 1),
    ("SELECT 1\n\\gexec\n", 2),
    ("\\copy t from program 'id'\n", 1),
    ("COPY t FROM PROGRAM 'id';\n", 1),
    ("COPY t\nFROM '/etc/passwd';\n", 1),
    ("COPY t TO '/tmp/x';\n", 1),
    ("COPY (SELECT 1) TO PROGRAM 'id';\n", 1),
    ("COPY t FROM stdin; SELECT 1;\n", 1),
    ("SET a = 1;\nDO $$ BEGIN END $$;\n", 2),
    ("do language plpgsql 'x';\n", 1),
    ("LOAD 'x';\n", 1),
    ("ALTER SYSTEM SET a = 1;\n", 1),
    ("alter\nsystem set a = 1;\n", 1),
    ("SELECT pg_catalog.lo_import('/etc/passwd');\n", 1),
    ("SELECT lo_export(1, '/tmp/x');\n", 1),
    ("INSERT INTO t VALUES (\"pg_read_file\"('/etc/passwd'));\n", 1),
    ("SELECT pg_read_binary_file('/etc/passwd');\n", 1),
    ("SELECT evil();\n", 1),
    ("CALL evil();\n", 1),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'x', 'y';\n", 1),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE 'c' AS 'x', 'y';\n", 1),
    ("CREATE OR REPLACE FUNCTION f() RETURNS int AS 'x' LANGUAGE plpython3u;\n", 1),
    ("CREATE LANGUAGE plperlu;\n", 1),
    ("CREATE EXTENSION IF NOT EXISTS plpython3u WITH SCHEMA pg_catalog;\n", 1),
    ("CREATE EXTENSION file_fdw;\n", 1),
    ("CREATE FOREIGN TABLE f (a text) SERVER s OPTIONS (program 'id');\n", 1),
    ("CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p;\n", 1),
    ("SET standard_conforming_strings = off;\n", 1),
    ("SELECT set_config('standard_conforming_strings', 'off', false);\n", 1),
    ("SET client_encoding = 'SJIS';\n", 1),
    ("SET NAMES 'BIG5';\n", 1),
    ("INSERT INTO t VALUES (E'a'\n'b\\'');\n", 2),
    ('SELECT U&"lo\\005fimport"(1);\n', 1),
    ("\\connect postgres evil localhost 5432\n", 1),
    ("\\connect -reuse-previous=on \"host=evil dbname='x'\"\n", 1),
    ("\\connect postgresql://evil/x\n", 1),
    ("\\connect 'a b'\n", 1),
    ("\\restrict `id`\n", 1),
    ("\\encoding SJIS\n", 1),
]


@pytest.mark.parametrize(("script", "line"), HOSTILE)
def test_hostile_sql_is_refused_with_its_line(script: str, line: int) -> None:
    """Nothing that reaches outside of the sandbox passes, and the error names the line."""
    with pytest.raises(HostileArchiveError, match=rf"^line {line} of the SQL: "):
        run(script)


CUT = [
    "SET a = 1;\n",
    "COMMENT ON TABLE t IS 'open\n" + END,
    "COPY t FROM stdin;\n1\n" + END,
    "CREATE FUNCTION f() AS $$ x\n" + END,
    "SET a = 1;\n" + END + "SET b\n",
]


@pytest.mark.parametrize("script", CUT)
def test_sql_that_is_cut_off_is_refused(script: str) -> None:
    """SQL without its end mark, or with anything open at the end, is no backup."""
    with pytest.raises(ArchiveError, match="cut off"):
        run(script, end="")


def test_nothing_hostile_is_passed_on_before_it_is_refused() -> None:
    """What psql has been given when the refusal comes ends before the refused statement is complete."""
    passed: list[bytes] = []
    script = checked([b"SET a = 1;\n", b"COPY t FROM PROGRAM\n", b"'id';\n"], TOKEN, "postgres")
    with pytest.raises(HostileArchiveError):
        passed.extend(script)
    assert passed == [b"SET a = 1;\n", b"COPY t FROM PROGRAM\n"]


@pytest.mark.parametrize(
    ("argument", "database"),
    [
        ("shop", "shop"),
        ('"Odd ""name"', 'Odd "name'),
        ("-reuse-previous=on \"dbname='a b\\\\c\\'d'\"", "a b\\c'd"),
    ],
)
def test_connect_is_said_again_in_our_words(argument: str, database: str) -> None:
    """A database of the dump is connected to under our token, and locked again at once."""
    text = run(f"\\connect {argument}\n").decode()
    assert text.startswith(f'\\unrestrict {TOKEN}\n\\connect -reuse-previous=on "dbname=')
    assert f"\n\\restrict {TOKEN}\n" in text
    assert database.replace("\\", "\\\\").replace("'", "\\'").replace('"', '""') in text


def test_role_of_initdb_is_not_made_twice() -> None:
    """CREATE ROLE of the sandbox's own superuser is left out, other roles are made."""
    text = run("CREATE ROLE postgres;\nCREATE ROLE app;\n").decode()
    assert text.startswith("\nCREATE ROLE app;\n")


def test_head_names_version_superuser_and_own_databases() -> None:
    """The sandbox is made like the server the SQL is of."""
    head = read_head(
        b"-- CREATE DATABASE postgres WITH TEMPLATE = template0 ENCODING = 'LATIN1' LOCALE_PROVIDER = libc"
        b" LOCALE = 'C';\nALTER ROLE app WITH NOSUPERUSER LOGIN;\nALTER ROLE boss WITH SUPERUSER LOGIN;\n"
        b"-- Dumped from database version 15.20 (Debian)\n"
    )
    assert (head.major, head.superuser) == (15, "boss")
    assert head.own_databases == (("postgres", "ENCODING = 'LATIN1' LOCALE_PROVIDER = libc LOCALE = 'C'"),)


QUOTED = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)


@given(QUOTED, QUOTED, st.sampled_from(["'", '"', "$tag$"]))
def test_nothing_inside_quotes_ends_a_statement(one: str, two: str, quote: str) -> None:
    """Whatever text stands in a literal, a name or a dollar quote: it is one statement, of one skeleton."""
    if "standard_conforming_strings" in (one + two).lower() or "client_encoding" in (one + two).lower():
        return
    inside = (one + two).replace(quote, quote * 2 if len(quote) == 1 else "")
    if quote == "$tag$" and (quote in inside or inside.endswith("$")):
        return
    scanner = SqlScanner()
    script = f"COMMENT ON X IS {quote}{inside}{quote};\nSET a = 1;\n"
    found = [item for line in script.encode().split(b"\n") for item in scanner.feed(line + b"\n")]
    assert len(found) == 2
    assert all(isinstance(item, Statement) for item in found)
    assert found[-1] == Statement(script.count("\n"), "SET a = 1;")
    assert scanner.between_statements
