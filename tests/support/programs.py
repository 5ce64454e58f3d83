"""Programs that tests run: found, or the test is skipped with the reason (on CI: fails)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

_LIST = Path(__file__).with_name("system_packages")


def require_program(name: str, *directories: Path | str) -> str:
    """Return the full path of the program `name`, looked for in `directories` and on PATH.

    Skips the test where it is missing; on CI `conftest` turns that into a failure.
    """
    for directory in directories:
        found = shutil.which(name, path=str(directory))
        if found:
            return found
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs the program {name} ({_how_to_get(name)})")
    return found


def require_root() -> None:
    """Skip the test unless it runs as root (owners, devices and mounts need it)."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


def _how_to_get(program: str) -> str:
    for line in _LIST.read_text().splitlines():
        package, _, path = line.partition(" ")
        if path and Path(path).name == program:
            return f"Debian package {package}"
    return f"not in {_LIST.name}"
