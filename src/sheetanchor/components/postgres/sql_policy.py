"""Which statements of a dump from elsewhere are run in the sandbox, and which are refused.

Allowed is what pg_dump and pg_dumpall write. What a function inside the dump does when an index
or a view calls it cannot be seen from its text: that is what the sandbox is for.
"""

from __future__ import annotations

import re

from sheetanchor.components.postgres.sql_scanner import Statement, refuse

_FIRST_WORDS = frozenset(
    """ALTER BEGIN COMMENT COMMIT COPY CREATE DELETE DROP GRANT INSERT REFRESH RESET REVOKE SECURITY
    SELECT SET START TRUNCATE UPDATE""".split()  # noqa: SIM905
)
_LANGUAGES = frozenset({"sql", "plpgsql", "plperl", "pltcl", "plv8"})
_COPY_IN = re.compile(r"COPY\s+[^;()]+(?:\([^;()]*\))?\s+FROM\s+stdin\s*;$", re.IGNORECASE)
_SELECT = re.compile(
    r"SELECT\s+(?:\*\s+FROM\s+)?\"?(?:pg_catalog\"?\.)?\"?(?:set_config|setval|lo_create|lo_creat|lo_open|lo_close"
    r"|lowrite|lo_put|lo_from_bytea|lo_unlink|pg_restore_\w+|pg_extension_config_dump)\"?\s*\(",
    re.IGNORECASE,
)
_LANGUAGE = re.compile(r"\bLANGUAGE\s+\"?(\w+)\"?", re.IGNORECASE)
_FORBIDDEN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), what)
    for pattern, what in (
        (r"^ALTER\s+SYSTEM\b", "ALTER SYSTEM"),
        (r"\bPROGRAM\b(?=\s*')", "a program"),
        (r"\b(lo_import|lo_export)\b\"?\s*\(", "lo_import or lo_export"),
        (r"\b(pg_read_\w*file|pg_file_\w+|pg_ls_\w+|pg_stat_file|pg_logdir_ls)\b\"?\s*\(", "a file function"),
        (r"\b(query_to_xml|dblink\w*|pg_reload_conf|pg_terminate_backend)\b\"?\s*\(", "a forbidden function"),
        (
            r"^CREATE\s+EXTENSION\b[^;]*\b(pl\w*u|file_fdw|adminpack)\b",
            "an extension that reaches the machine",
        ),
        (r"^CREATE\s+SUBSCRIPTION\b(?![^;]*\bconnect\s*=\s*(false|'))", "a subscription that connects"),
        (r"^CREATE\s+(OR\s+REPLACE\s+)?ACCESS\s+METHOD\b", "an access method"),
    )
)


def check_statement(statement: Statement) -> None:
    """Refuse what a dump does not hold or what would reach outside. Raises HostileArchiveError."""
    text = statement.skeleton
    words = text.split(None, 1)
    first = words[0].rstrip(";").upper() if words else ""
    if first and first not in _FIRST_WORDS:
        raise refuse(statement.line, f"{first[:30]} is not a statement of a dump")
    for pattern, what in _FORBIDDEN:
        if pattern.search(text):
            raise refuse(statement.line, what)
    if first == "COPY" and not _COPY_IN.match(text):
        raise refuse(statement.line, "COPY from or to anything but the dump itself")
    if first == "SELECT" and not _SELECT.match(text):
        raise refuse(statement.line, "a SELECT that is not a dump's")
    if first == "CREATE":
        _check_language(statement)


def _check_language(statement: Statement) -> None:
    text = statement.skeleton
    if not re.match(
        r"CREATE\s+(OR\s+REPLACE\s+)?((TRUSTED\s+)?(PROCEDURAL\s+)?LANGUAGE|FUNCTION|PROCEDURE)\b",
        text,
        re.IGNORECASE,
    ):
        return
    for found in _LANGUAGE.finditer(text):
        if found.group(1).lower() not in _LANGUAGES:
            raise refuse(statement.line, f"the language {found.group(1)}, which is not sandboxed")
    if re.search(r"\bLANGUAGE\s+'", text, re.IGNORECASE):
        raise refuse(statement.line, "a language named by a literal")
