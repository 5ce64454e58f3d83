"""SQL identifiers and literals, quoted always (PostgreSQL manual, 4.1 "Lexical Structure")."""

from __future__ import annotations


def identifier(name: str) -> str:
    """Quote a name of a role, database, schema or table."""
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """Quote a name with its schema."""
    return f"{identifier(schema)}.{identifier(name)}"


def literal(text: str) -> str:
    """Quote a string constant; right whatever `standard_conforming_strings` says."""
    doubled = text.replace("'", "''")
    if "\\" in doubled:
        return " E'" + doubled.replace("\\", "\\\\") + "'"
    return f"'{doubled}'"


LIST_SETTINGS = frozenset(
    {
        "local_preload_libraries",
        "oauth_validator_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)
"""Settings stored as a list of identifiers that are quoted already (GUC_LIST_QUOTE)."""


def assignment(setting: str) -> str:
    """Turn `name=value`, as pg_db_role_setting stores it, into `name TO value`.

    A list setting is given element by element: as one literal it would become one element.
    """
    name, _, value = setting.partition("=")
    quoted_name = ".".join(identifier(part) for part in name.split("."))
    if name.lower() in LIST_SETTINGS:
        return f"{quoted_name} TO " + ", ".join(literal(element) for element in split_list(value))
    return f"{quoted_name} TO {literal(value)}"


def setting_name(setting: str) -> str:
    """Return the quoted name in `name=value`."""
    return ".".join(identifier(part) for part in setting.partition("=")[0].split("."))


def split_list(value: str) -> list[str]:
    """Split a stored list: elements between commas, double quotes around what needs them."""
    elements: list[str] = []
    current: list[str] = []
    quoted = False
    position = 0
    while position < len(value):
        character = value[position]
        if character == '"':
            if quoted and value[position + 1 : position + 2] == '"':
                current.append('"')
                position += 1
            else:
                quoted = not quoted
        elif character == "," and not quoted:
            elements.append("".join(current))
            current = []
        elif quoted or not character.isspace():
            current.append(character)
        position += 1
    elements.append("".join(current))
    return elements
