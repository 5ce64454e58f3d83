"""Stock restic: the judge of what we write, and the writer of what we must read."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.programs import require_program

PASSWORD = "correct horse"
_SECONDS = 120.0


@dataclass(frozen=True)
class Restic:
    """Runs restic on one repository; times are written in UTC, nothing is cached between tests."""

    program: str
    repository: Path
    cache: Path
    password: str = PASSWORD

    def run(self, *arguments: str) -> str:
        """Run a command that has to succeed; return what it printed."""
        done = self._done(arguments)
        assert done.returncode == 0, f"restic {' '.join(arguments)}: {done.returncode}\n{_output(done)}"
        return done.stdout.decode()

    def fails(self, *arguments: str) -> str:
        """Run a command that has to fail (its exit status differs by version); return what it said."""
        done = self._done(arguments)
        assert done.returncode != 0, f"restic {' '.join(arguments)} succeeded\n{_output(done)}"
        return done.stderr.decode()

    def json(self, *arguments: str) -> Any:
        """Run a command with --json and return what it printed, parsed."""
        return json.loads(self.run("--json", *arguments))

    def _done(self, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
        argv = [self.program, "--repo", str(self.repository), *arguments]
        return subprocess.run(argv, env=self.environment, capture_output=True, timeout=_SECONDS, check=False)

    @property
    def environment(self) -> dict[str, str]:
        """The variables restic runs with."""
        return {
            **os.environ,
            "TZ": "UTC",
            "RESTIC_PASSWORD": self.password,
            "RESTIC_CACHE_DIR": str(self.cache),
        }


def stock_restic(directory: Path, password: str = PASSWORD) -> Restic:
    """Return restic for `directory/repository`; skip the test where restic is missing."""
    return Restic(require_program("restic"), directory / "repository", directory / "cache", password)


def _output(done: subprocess.CompletedProcess[bytes]) -> str:
    return (done.stdout + done.stderr).decode(errors="replace")
