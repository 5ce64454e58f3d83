"""Writes a first `sheetanchor.yml`: what was found, and comments that say what else is possible."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/_.-]*")
_MISREAD = frozenset({"yes", "no", "on", "off", "true", "false", "null", "y", "n"})


@dataclass(frozen=True)
class SampleComponent:
    """A component to be written: facts become comments."""

    name: str
    type: str
    settings: tuple[tuple[str, str | tuple[str, ...]], ...]
    facts: tuple[str, ...] = ()


_HEAD = """\
# What Sheetanchor protects, and where it keeps the backups.
#   check this file:   sheetanchor config check
#   for your editor:   sheetanchor config schema > sheetanchor.schema.json
# Unknown keys are refused. No secret stands in this file: passwords are read from files or
# from the environment.

stack:
  name: {stack}
  driver: local

repository:
  # As restic writes it: a directory, or s3:https://host/bucket/prefix (with AWS_ACCESS_KEY_ID and
  # AWS_SECRET_ACCESS_KEY in the environment). A repository on the machine that it protects is
  # lost together with that machine.
  url: {url}
  # Without this password no backup can be read. Keep a copy of it somewhere else.
  password_file: {password_file}

components:
"""

_TAIL = """
# More that a component can have:
#   - name: postgres
#     type: postgres
#     url: "postgresql://postgres@127.0.0.1:5432/postgres"
#     password_file: /etc/sheetanchor/postgres.password
#     bin_dir: /usr/lib/postgresql/15/bin      # programs of the server's own major version
#     pre: [[/usr/local/bin/before-backup]]    # argv lists, run before and after the capture
#     post: [[/usr/local/bin/after-backup]]
#   - name: redis
#     type: redis
#     url: "redis://127.0.0.1:6379/0"
#     password_file: /etc/sheetanchor/redis.password
#   - name: uploads
#     type: volume
#     path: /srv/uploads
#     exclude: ["*.tmp", "/cache"]
#     stop: [systemctl, stop, app]             # for what can only be restored with it down
#     start: [systemctl, start, app]
#   - name: configs
#     type: configs
#     paths: [/srv/docker-compose.prod.yml, /etc/nginx]
"""


def render(stack: str, url: str, password_file: Path, components: Sequence[SampleComponent]) -> str:
    """Return the file's text; valid as it stands when there is at least one component."""
    head = _HEAD.format(stack=_quoted(stack), url=_quoted(url), password_file=_quoted(str(password_file)))
    body = "".join(_component(component) for component in components)
    nothing = "  []  # nothing was found: name what there is, as shown below\n"
    return head + (body or nothing) + _TAIL


def _component(component: SampleComponent) -> str:
    lines = [f"  # {_comment(fact)}" for fact in component.facts]
    lines += [f"  - name: {_quoted(component.name)}", f"    type: {component.type}"]
    for key, value in component.settings:
        lines.append(f"    {key}:{_list(value) if isinstance(value, tuple) else ' ' + _quoted(value)}")
    return "\n".join(lines) + "\n"


def _list(values: Sequence[str]) -> str:
    return "".join(f"\n      - {_quoted(value)}" for value in values)


def _quoted(text: str) -> str:
    """Return a plain scalar where YAML cannot misread it, a double-quoted one elsewhere."""
    if _PLAIN.fullmatch(text) and text.lower() not in _MISREAD:
        return text
    quoted: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=sys.maxsize)
    return quoted.strip()


def _comment(text: str) -> str:
    """Return what a server said about itself as one line that YAML can hold."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
