"""A small stack of files only, for what does not need servers: made in milliseconds."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from support.stack import COMMAND_SECONDS, PASSWORD, PROGRAM, Outcome


@dataclass
class FilesStack:
    """Two volumes, a configuration, a repository; everything below `directory`."""

    directory: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.directory / "sheetanchor.yml"

    @property
    def repository(self) -> Path:
        """The repository's directory."""
        return self.directory / "repository"

    def volume(self, name: str = "uploads") -> Path:
        """Return a volume's directory."""
        return self.directory / "srv" / name

    def write_config(self, *more: dict[str, Any], **changes: Any) -> None:
        """Write the configuration: two volumes, and `more` components."""
        settings: dict[str, Any] = {
            "stack": {"name": "files", "driver": "local"},
            "repository": {"url": str(self.repository), "password_file": str(self.directory / "password")},
            "state_directory": str(self.directory / "state"),
            "components": [
                {"name": "uploads", "type": "volume", "path": str(self.volume())},
                {"name": "media", "type": "volume", "path": str(self.volume("media"))},
                *more,
            ],
        }
        self.config.write_text(yaml.safe_dump(settings | changes))

    def run(self, *arguments: str, **environment: str) -> Outcome:
        """Run the program with --json to its end."""
        done = subprocess.run(
            [PROGRAM, "--config", self.config, *arguments, "--json"],
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
            env={**os.environ, **environment},
        )
        lines = done.stdout.decode().splitlines()
        return Outcome(done.returncode, [json.loads(line) for line in lines], done.stderr.decode())

    def backup(self, *options: str) -> str:
        """Make a complete backup; return its name."""
        done = self.run("backup", *options)
        assert done.status == 0, (done.messages, done.stderr)
        return str(done.summary["backup"])

    def listed(self) -> dict[str, dict[str, Any]]:
        """Return what `list` shows, by name."""
        return {one["backup"]: one for one in self.run("list").messages[-1]}


def make_files_stack(directory: Path) -> FilesStack:
    """Return a stack with files in both volumes and an empty repository."""
    directory.mkdir(parents=True, exist_ok=True)
    stack = FilesStack(directory)
    for name in ("uploads", "media"):
        stack.volume(name).mkdir(parents=True)
        for number in range(20):
            (stack.volume(name) / f"file {number}.txt").write_text(f"{name} {number}\n" * 50)
    password = directory / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    stack.write_config()
    done = stack.run("init")
    assert done.status == 0, (done.messages, done.stderr)
    return stack
