"""The program run as people run it, in a pipe or on a terminal, on a small stack of files."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sheetanchor.cli.main import main

PROGRAM = Path(sys.executable).with_name("sheetanchor")
PASSWORD = "correct horse battery staple"
SECONDS = 120


@dataclass(frozen=True)
class Done:
    """How a run ended and what it printed."""

    status: int
    stdout: str
    stderr: str

    @property
    def messages(self) -> list[Any]:
        """Standard output as JSON, a value a line."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def summary(self) -> dict[str, Any]:
        """The last message; fails the test when it is no summary."""
        last: dict[str, Any] = self.messages[-1]
        assert last["message_type"] == "summary", (self.stdout, self.stderr)
        return last


@dataclass(frozen=True)
class ShopStack:
    """A volume and a configuration file, and where everything of them is."""

    directory: Path

    @property
    def uploads(self) -> Path:
        """The volume."""
        return self.directory / "srv" / "uploads"

    @property
    def compose(self) -> Path:
        """The configuration file that is backed up."""
        return self.directory / "srv" / "docker-compose.yml"

    @property
    def repository(self) -> Path:
        """The repository's directory."""
        return self.directory / "repository"

    @property
    def config(self) -> Path:
        """The `sheetanchor.yml`."""
        return self.directory / "sheetanchor.yml"

    @classmethod
    def make(cls, directory: Path, *, repository: bool = True) -> ShopStack:
        """Fill a volume, write the configuration and make the repository."""
        stack = cls(directory)
        stack.uploads.mkdir(parents=True)
        (stack.uploads / "a.txt").write_text("first\n")
        (stack.uploads / "binary").write_bytes(bytes(range(256)) * 40)
        (stack.uploads / "sub").mkdir()
        (stack.uploads / "sub" / "b.txt").write_text("second\n")
        stack.compose.write_text("services: {}\n")
        stack.config.write_text(_CONFIG.format(directory=directory))
        (directory / "password").write_text(PASSWORD + "\n")
        (directory / "password").chmod(0o600)
        if repository:
            done = stack.call("init")
            assert done.status == 0, done.stderr
        return stack

    def command(self, *arguments: str) -> list[str]:
        """Return what people would type."""
        return [str(PROGRAM), "--config", str(self.config), *arguments]

    def run(self, *arguments: str, **environment: str) -> Done:
        """Run the program to its end in a process of its own, without a terminal."""
        return run(self.command(*arguments), environment, self.directory)

    def call(self, *arguments: str) -> Done:
        """Run the program's entry in this process: the same but for half a second of imports."""
        stdout, stderr = io.StringIO(), io.StringIO()
        with redirect_stdout(stdout), redirect_stderr(stderr):
            status = main(["--config", str(self.config), *arguments])
        return Done(status, stdout.getvalue(), stderr.getvalue())

    def backup(self, *arguments: str) -> str:
        """Make a complete backup; return its name."""
        done = self.call("backup", "--json", *arguments)
        assert done.status == 0, (done.stdout, done.stderr)
        return str(done.summary["backup"])

    def on_a_terminal(self, *arguments: str, answer: str = "", **environment: str) -> Done:
        """Run the program on a pseudo-terminal; type `answer` when it asks for the stack's name."""
        return on_a_terminal(self.command(*arguments), answer, environment, self.directory)


def run(argv: list[str], environment: dict[str, str], directory: Path) -> Done:
    """Run `argv` to its end."""
    done = subprocess.run(
        argv,
        capture_output=True,
        timeout=SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=directory,
        env={**os.environ, **environment},
    )
    return Done(done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode())


def on_a_terminal(argv: list[str], answer: str, environment: dict[str, str], directory: Path) -> Done:
    """Run `argv` with all three streams on a pseudo-terminal; what it printed is in `stdout`."""
    master, slave = pty.openpty()
    settings = {"TERM": "xterm-256color", "COLUMNS": "120", **environment}
    child = subprocess.Popen(
        argv,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=directory,
        env={**os.environ, **settings},
        start_new_session=True,
    )
    os.close(slave)
    try:
        seen = _converse(master, answer)
        return Done(child.wait(SECONDS), seen.decode(errors="replace").replace("\r\n", "\n"), "")
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        os.close(master)


def _converse(master: int, answer: str) -> bytes:
    """Read until the other side is closed; give the answer when it is asked for."""
    seen = b""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.2)[0]:
            continue
        try:
            chunk = os.read(master, 65536)
        except OSError:
            # Linux ends a terminal that nobody holds any more by EIO.
            break
        seen += chunk
        if answer and b"type the stack's name" in seen:
            os.write(master, answer.encode() + b"\n")
            answer = ""
    return seen


_CONFIG = """\
stack: {{name: shop, driver: local}}
repository: {{url: repository, password_file: password}}
state_directory: state
components:
  - {{name: uploads, type: volume, path: {directory}/srv/uploads}}
  - {{name: configs, type: configs, paths: [{directory}/srv/docker-compose.yml]}}
"""
