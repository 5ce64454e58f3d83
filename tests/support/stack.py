"""A whole stack under test: real PostgreSQL, Redis or Valkey, a volume, configuration files.

The program is run as people run it: `sheetanchor --config FILE COMMAND`, in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support import postgres_cases, redis_cases, volume_cases
from support.postgres import connect, run_sql, running_server
from support.postgres_cases import PostgresCase
from support.redis import live_server, programs
from support.redis_cases import RedisCase
from support.volume_cases import VolumeCase

PASSWORD = "a stack under test"
PROGRAM = Path(sys.executable).with_name("sheetanchor")
COMMAND_SECONDS = 240


@dataclass(frozen=True)
class Outcome:
    """How a run of the program ended."""

    status: int
    messages: list[dict[str, Any]]
    """Standard output under --json, message by message."""
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        """The last message; fails the test when it is no summary."""
        assert self.messages, self.stderr
        assert self.messages[-1]["message_type"] == "summary", (self.messages[-1], self.stderr)
        return self.messages[-1]

    @property
    def error(self) -> dict[str, Any]:
        """The error message; fails the test when there is none."""
        found = [one for one in self.messages if one["message_type"] == "error"]
        assert found, (self.messages, self.stderr)
        return found[-1]


@dataclass
class StackUnderTest:
    """The live parts, and the program's configuration for them."""

    directory: Path
    postgres: PostgresCase
    redis: RedisCase
    volume: VolumeCase
    compose: Path
    config: Path
    repository: Path

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that people would type."""
        return [str(PROGRAM), "--config", str(self.config), *arguments]

    def run(self, *arguments: str, as_json: bool = True, **environment: str) -> Outcome:
        """Run the program to its end."""
        options = ["--json"] if as_json else []
        done = subprocess.run(
            self.command(*arguments, *options),
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
            env={**os.environ, **environment},
        )
        lines = done.stdout.decode().splitlines() if as_json else []
        return Outcome(done.returncode, [json.loads(line) for line in lines], done.stderr.decode())

    def backup(self) -> str:
        """Make a complete backup; return its name."""
        done = self.run("backup")
        assert done.status == 0, done
        return str(done.summary["backup"])

    def restore(self, name: str, *options: str) -> Outcome:
        """Restore without asking; it has to succeed."""
        done = self.run("restore", name, "--no-confirm", *options)
        assert done.status == 0, (done.messages[-3:], done.stderr)
        return done

    def describe(self) -> dict[str, object]:
        """Return the whole live state, read by means that are not ours."""
        return {
            "postgres": self.postgres.describe(),
            "redis": self.redis.describe(),
            "volume": self.volume.describe(),
            "configs": self.compose.read_bytes() if self.compose.exists() else None,
        }

    def change(self) -> None:
        """Change everything in every way that matters."""
        self.postgres.change()
        self.redis.change()
        self.volume.change()
        self.compose.write_text("services: {changed: {}}\n")

    def destroy(self) -> None:
        """Lose all data: databases and roles dropped, keys flushed, files removed."""
        with connect(self.postgres.server) as connection:
            found = connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")
            for name in [row[0] for row in found]:
                if name != "postgres":
                    connection.execute(f'DROP DATABASE "{name}"')
        with self.redis.server.client() as connection:
            connection.flushall()
            connection.function_flush()
        shutil.rmtree(self.volume.live)
        self.compose.unlink()

    def leftovers(self) -> list[str]:
        """Name whatever restores have left beside the live data."""
        hidden = [path.name for path in self.compose.parent.iterdir() if "sheetanchor-" in path.name]
        work = self.directory / "work"
        return [
            *self.postgres.leftovers(),
            *[one for one in self.redis.leftovers() if one not in os.listdir(work)],
            *self.volume.leftovers(),
            *hidden,
            *os.listdir(work),
        ]

    def restic(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run stock restic on the repository."""
        return subprocess.run(
            ["restic", "-r", str(self.repository), "--no-cache", *arguments],
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
            env={**os.environ, "RESTIC_PASSWORD": PASSWORD},
        )

    def assert_clean_by_restic(self) -> None:
        """Fail unless stock restic finds every byte of the repository whole."""
        done = self.restic("check", "--read-data", "--no-lock")
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()

    def kill_after(self, seconds: float, *arguments: str) -> bool:
        """Run the program and `kill -9` it after `seconds`; say whether it was still running.

        Its children are its own business: they must not outlive it for long.
        """
        child = subprocess.Popen(
            self.command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait(30)
            return True
        return False


@contextmanager
def stack_under_test(
    directory: Path, *, postgres: int = 18, cache: str = "valkey", settings: Mapping[str, str] | None = None
) -> Iterator[StackUnderTest]:
    """Yield a running stack with data in every part and an empty repository; ended afterwards."""
    with ExitStack() as stack:
        server = stack.enter_context(running_server(postgres, settings=settings))
        run_sql(server, "postgres", postgres_cases.DATA)
        lines = ("appendonly yes",) if cache == "redis" else ()
        live = stack.enter_context(live_server(programs()[cache], directory / "cache", *lines))
        redis_cases.fill(live)
        uploads = directory / "srv" / "uploads"
        uploads.mkdir(parents=True)
        volume_cases.fill(uploads)
        compose = directory / "srv" / "docker-compose.prod.yml"
        compose.write_text("services: {web: {image: nginx}}\n")
        under_test = StackUnderTest(
            directory=directory,
            postgres=PostgresCase(server, directory),
            redis=RedisCase(live, directory),
            volume=VolumeCase(directory, uploads),
            compose=compose,
            config=directory / "sheetanchor.yml",
            repository=directory / "repository",
        )
        _configure(under_test)
        assert under_test.run("init").status == 0
        yield under_test


def _configure(stack: StackUnderTest) -> None:
    password = stack.directory / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    (stack.directory / "work").mkdir()
    server = stack.postgres.server
    stack.config.write_text(
        yaml.safe_dump(
            {
                "stack": {"name": "prodstack", "driver": "local"},
                "repository": {"url": str(stack.repository), "password_file": str(password)},
                "work_directory": str(stack.directory / "work"),
                "state_directory": str(stack.directory / "state"),
                "components": [
                    {
                        "name": "postgres",
                        "type": "postgres",
                        "url": server.url(),
                        "bin_dir": str(server.tools.directory),
                    },
                    {
                        "name": "redis",
                        "type": "redis",
                        "url": f"redis://127.0.0.1:{stack.redis.server.port}/0",
                        "server_program": str(stack.redis.server.program),
                    },
                    {"name": "uploads", "type": "volume", "path": str(stack.volume.live)},
                    {"name": "configs", "type": "configs", "paths": [str(stack.compose)]},
                ],
            }
        )
    )
