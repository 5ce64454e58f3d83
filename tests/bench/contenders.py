"""The tools that are compared, each with the commands that a user of it would type."""

from __future__ import annotations

import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench.measure import Measured, measure

PASSWORD = "correct horse battery staple"  # of repositories that live for one run


class Contender(ABC):
    """One tool with one place to store in; `begin` empties that place."""

    is_incremental: ClassVar[bool] = True

    def __init__(self, name: str, data: Path, scratch: Path) -> None:
        self.name = name
        self.data = data
        self.scratch = scratch
        self.store = scratch / "store"
        self.target = scratch / "restored"
        self.password_file = scratch / "password"

    def begin(self) -> None:
        """Start with an empty store (not measured)."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        self.password_file.write_text(PASSWORD)
        self.password_file.chmod(0o600)
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Create the empty store."""

    @abstractmethod
    def back_up(self) -> Measured:
        """Measure one backup of the data."""

    @abstractmethod
    def restore(self) -> Measured:
        """Measure a restore of the newest backup into `target`."""

    @abstractmethod
    def restored_data(self) -> Path:
        """Return the directory below `target` that has to equal the data."""

    def stored_bytes(self) -> int:
        """Return the size of everything in the store."""
        return sum(path.stat().st_size for path in self.store.rglob("*") if path.is_file())


class Sheetanchor(Contender):
    """The program of this checkout, with one volume component and its own defaults."""

    def prepare(self) -> None:
        """Write the least configuration and create the repository."""
        self.configuration = self.scratch / "sheetanchor.yml"
        self.configuration.write_text(
            "stack: {name: bench, driver: local}\n"
            f"repository: {{url: {self.store}, password_file: {self.password_file}}}\n"
            f"state_directory: {self.scratch / 'state'}\n"
            f"components: [{{name: data, type: volume, path: {self.data}}}]\n"
        )
        measure(self._command("init"))

    def back_up(self) -> Measured:
        """`sheetanchor backup`."""
        return measure(self._command("backup"))

    def restore(self) -> Measured:
        """`sheetanchor restore latest --target`."""
        return measure(self._command("restore", "latest", "--target", str(self.target)))

    def restored_data(self) -> Path:
        """Return where `--target` puts the volume."""
        return self.target / "volumes" / "data"

    def _command(self, *words: str) -> list[str]:
        program = Path(sys.executable).with_name("sheetanchor")
        return [str(program), "--config", str(self.configuration), *words]


class Restic(Contender):
    """Stock restic, repository version 2, with its own defaults and its own cache."""

    def __init__(self, name: str, data: Path, scratch: Path, program: str) -> None:
        super().__init__(name, data, scratch)
        self.program = program

    def prepare(self) -> None:
        """Create the repository."""
        measure([self.program, "init", "--repository-version", "2"], environment=self._environment())

    def back_up(self) -> Measured:
        """`restic backup`."""
        return measure([self.program, "backup", str(self.data)], environment=self._environment())

    def restore(self) -> Measured:
        """`restic restore latest`."""
        command = [self.program, "restore", "latest", "--target", str(self.target)]
        return measure(command, environment=self._environment())

    def restored_data(self) -> Path:
        """Return where restic puts an absolute path."""
        return self.target / self.data.relative_to("/")

    def _environment(self) -> Mapping[str, str]:
        return {
            "RESTIC_REPOSITORY": str(self.store),
            "RESTIC_PASSWORD_FILE": str(self.password_file),
            "RESTIC_CACHE_DIR": str(self.scratch / "cache"),
        }


class TarOpenssl(Contender):
    """What the shell scripts do: tar with gzip into AES-256. No deduplication, no proof."""

    is_incremental = False

    def prepare(self) -> None:
        """Make the directory."""
        self.store.mkdir()

    def back_up(self) -> Measured:
        """`tar czf - | openssl enc`."""
        return self._shell(
            'tar -C "$DATA" -czf - . | openssl enc -aes-256-cbc -pbkdf2 -pass "file:$PASSWORD" >"$FILE"'
        )

    def restore(self) -> Measured:
        """`openssl enc -d | tar xzf -`."""
        self.target.mkdir()
        return self._shell(
            'openssl enc -d -aes-256-cbc -pbkdf2 -pass "file:$PASSWORD" <"$FILE" | tar -C "$TARGET" -xzf -'
        )

    def restored_data(self) -> Path:
        """Return the directory itself."""
        return self.target

    def _shell(self, pipeline: str) -> Measured:
        environment = {
            "DATA": str(self.data),
            "FILE": str(self.store / "backup.tar.gz.enc"),
            "TARGET": str(self.target),
            "PASSWORD": str(self.password_file),
        }
        return measure(["bash", "-o", "pipefail", "-c", pipeline], environment=environment)


class TarZstd(TarOpenssl):
    """Fast compression alone: neither encrypted, nor verified, nor deduplicated."""

    def back_up(self) -> Measured:
        """`tar cf - | zstd -1 -T2`."""
        return self._shell('tar -C "$DATA" -cf - . | zstd -q -1 -T2 >"$FILE"')

    def restore(self) -> Measured:
        """`zstd -d | tar xf -`."""
        self.target.mkdir()
        return self._shell('zstd -q -d <"$FILE" | tar -C "$TARGET" -xf -')


class Borg(Contender):
    """BorgBackup with encryption and the fast compression that ours is comparable with."""

    def prepare(self) -> None:
        """Create the repository."""
        self.backups = 0
        self._borg("init", "--encryption", "repokey-blake2", str(self.store))

    def back_up(self) -> Measured:
        """`borg create -C zstd,1`."""
        self.backups += 1
        return self._borg("create", "-C", "zstd,1", f"{self.store}::{self.backups}", str(self.data))

    def restore(self) -> Measured:
        """`borg extract`."""
        self.target.mkdir()
        return self._borg("extract", f"{self.store}::{self.backups}", cwd=self.target)

    def restored_data(self) -> Path:
        """Return where borg puts an absolute path."""
        return self.target / self.data.relative_to("/")

    def _borg(self, *words: str, cwd: Path | None = None) -> Measured:
        environment = {"BORG_PASSPHRASE": PASSWORD, "BORG_BASE_DIR": str(self.scratch / "borg")}
        return measure(["borg", *words], environment=environment, cwd=cwd)


def restic_version(program: str) -> str:
    """Return such as "restic 0.14.0"."""
    done = subprocess.run([program, "version"], capture_output=True, text=True, check=True)
    return " ".join(done.stdout.split()[:2])
