"""The commands of docs/without-sheetanchor.md, run as they stand there, bring everything back."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import redis as client

from sheetanchor.components.postgres.scratch import ScratchServer
from support.postgres import running_server
from support.postgres_cases import PostgresCase
from support.programs import require_program
from support.redis import free_port
from support.redis_cases import RedisCase
from support.stack import PASSWORD, StackUnderTest, stack_under_test
from support.volume_cases import describe

DOCUMENT = Path(__file__).parents[2] / "docs" / "without-sheetanchor.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXPECTED_ERROR = re.compile(r'ERROR:  role "postgres" already exists')


def _script(values: dict[str, str]) -> str:
    """Return all commands of the document, with its example values exchanged for ours."""
    text = "\n".join(BLOCK.findall(DOCUMENT.read_text()))
    for name, value in values.items():
        text, found = re.subn(rf"^export {name}=\S+", f"export {name}='{value}'", text, flags=re.MULTILINE)
        assert found == 1, f"the document sets {name} {found} times"
    left = set(re.findall(r"^export (\w+)=", text, flags=re.MULTILINE)) - values.keys()
    assert not left, f"the document asks for {left}, the test does not know it"
    return text


def _follow(script: str, server: ScratchServer, home: Path) -> None:
    """Run the script as someone would who types it; only the one expected error may be shown."""
    path = f"{server.tools.directory}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-eu"],
        input=script,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=home,
        env={**os.environ, "PATH": path, "HOME": os.fspath(home)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if "ERROR" in line or "error:" in line]
    assert len(errors) == 1, done.stderr
    assert EXPECTED_ERROR.search(errors[0]), errors


def _redis_state(stack: StackUnderTest, port: int) -> object:
    """Read the recovered server as the original one was read."""
    recovered = RedisCase(replace(stack.redis.server, port=port, process=None), stack.directory)
    return recovered.describe()


def _values(
    stack: StackUnderTest, backup: str, out: Path, port: int, server: ScratchServer
) -> dict[str, str]:
    return {
        "PGHOST": os.fspath(server.sockets),
        "PGPORT": str(server.options.port),
        "PGUSER": "postgres",
        "RESTIC_REPOSITORY": os.fspath(stack.repository),
        "RESTIC_PASSWORD_FILE": os.fspath(out.parent / "password"),
        "OUT": os.fspath(out),
        "REDIS_DIR": os.fspath(out.parent / "redis"),
        "REDIS_PORT": str(port),
        "UPLOADS": os.fspath(stack.volume.live),
        "COMPOSE": os.fspath(stack.compose),
        "BACKUP": backup,
    }


@contextmanager
def _redis_ended(port: int) -> Iterator[None]:
    """End the server that the document starts, whatever happened."""
    try:
        yield
    finally:
        stop = ["redis-cli", "-p", str(port), "shutdown", "nosave"]
        subprocess.run(stop, capture_output=True, check=False)


@pytest.mark.slow
def test_the_document_recovers_everything(tmp_path: Path) -> None:
    """Databases, roles, keys, files and configuration are equal to what was backed up."""
    for program in ("restic", "redis-server", "redis-cli"):
        require_program(program)
    port = free_port()
    with stack_under_test(tmp_path, postgres=15, cache="redis") as stack, _redis_ended(port):
        before = stack.describe()
        backup = stack.backup()
        stack.change()
        stack.run("backup")
        stack.compose.unlink()
        out = tmp_path / "recovery" / "out"
        (out.parent / "redis").mkdir(parents=True)
        (out.parent / "password").write_text(PASSWORD)
        with running_server(15) as empty:
            _follow(_script(_values(stack, backup, out, port, empty)), empty, tmp_path)
            assert PostgresCase(empty, tmp_path).describe() == before["postgres"]
        with client.Redis(port=port) as connection:
            assert connection.config_get("appendonly") == {"appendonly": "yes"}
        assert _redis_state(stack, port) == before["redis"]
        assert describe(stack.volume.live) == before["volume"]
        assert stack.compose.read_bytes() == before["configs"]
