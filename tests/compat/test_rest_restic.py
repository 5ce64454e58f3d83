"""Stock restic works with our REST server as with its own: over TLS, with users and their rights."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sheetanchor.repository.server.rights import Right
from support.programs import require_program
from support.repositories import PASSWORD as REPOSITORY_PASSWORD
from support.repositories import open_repository
from support.rest_server import PASSWORD, Served, certificate, served, users


@dataclass(frozen=True)
class RemoteRestic:
    """Runs stock restic as one user of the server."""

    url: str
    ca: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever comes of it."""
        return subprocess.run(
            self._argv(arguments),
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def succeeds(self, *arguments: str) -> str:
        """Run a command that has to succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"restic {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def is_refused(self, log: list[str], *arguments: str) -> None:
        """Run a command that the server has to refuse.

        Stock restic tries again for a minute and more: once it was refused it is stopped.
        """
        seen = len(log)
        with subprocess.Popen(
            self._argv(arguments),
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as child:
            deadline = time.monotonic() + 60
            while not any(" 403 " in line for line in log[seen:]):
                assert time.monotonic() < deadline, log[seen:]
                assert child.poll() in (None, 1), log[seen:]
                time.sleep(0.05)
            child.terminate()
            assert child.wait(30) != 0

    def _argv(self, arguments: tuple[str, ...]) -> list[str]:
        program = require_program("restic")
        return [program, "--no-cache", "--cacert", str(self.ca), "-r", self.url, *arguments]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "RESTIC_PASSWORD": REPOSITORY_PASSWORD}


@dataclass(frozen=True)
class Place:
    """A server with TLS and users, and where its files are."""

    server: Served
    directory: Path
    ca: Path

    def restic(self, user: str) -> RemoteRestic:
        """Return stock restic with a user's credentials."""
        host = self.server.url.removeprefix("https://")
        return RemoteRestic(f"rest:https://{user}:{PASSWORD}@{host}", self.ca)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A server for one repository, with a user of each right."""
    ca, key = certificate(tmp_path)
    source = users(owner=Right.FULL, appender=Right.APPEND_ONLY, reader=Right.READ_ONLY, worker=Right.RUN)
    directory = tmp_path / "served"
    with served(directory, source, certificate=ca, certificate_key=key) as server:
        yield Place(server, directory, ca)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Some files, one of them larger than a chunk of restic's."""
    directory = tmp_path / "data"
    (directory / "sub").mkdir(parents=True)
    (directory / "large").write_bytes(os.urandom(9 << 20))
    for number in range(30):
        (directory / "sub" / str(number)).write_bytes(os.urandom(number * 100))
    return directory


def _without_locks(place: Place) -> list[Path]:
    files = (path for path in place.directory.rglob("*") if path.is_file())
    return sorted(path for path in files if path.parent.name != "locks")


def _same(first: Path, second: Path) -> bool:
    return subprocess.run(["diff", "-r", str(first), str(second)], check=False).returncode == 0


def test_all_of_restic_works(place: Place, data: Path, tmp_path: Path) -> None:
    """Init, backup, check of every byte, restore, forget and prune; the directory is a plain repository."""
    restic = place.restic("owner")
    restic.succeeds("init")
    restic.succeeds("backup", str(data))
    (data / "large").write_bytes(os.urandom(9 << 20))
    restic.succeeds("backup", str(data))
    restic.succeeds("check", "--read-data")
    restic.succeeds("restore", "latest", "--target", str(tmp_path / "out"))
    assert _same(tmp_path / "out" / data.relative_to("/"), data)
    before = sum(file.stat().st_size for file in (place.directory / "data").rglob("*") if file.is_file())
    restic.succeeds("forget", "--keep-last", "1", "--prune")
    after = sum(file.stat().st_size for file in (place.directory / "data").rglob("*") if file.is_file())
    assert after < before - (8 << 20)
    restic.succeeds("check", "--read-data")
    restic.succeeds("key", "list")
    assert len(open_repository(place.directory).snapshots()) == 1
    leftovers = [file.name for file in place.directory.rglob("*") if "~" in file.name]
    assert leftovers == []


def test_append_only_is_what_restic_means_by_it(place: Place, data: Path) -> None:
    """Such a user backs up, checks and restores; it removes no snapshot, no key and no pack."""
    appender = place.restic("appender")
    appender.succeeds("init")
    appender.succeeds("backup", str(data))
    appender.succeeds("backup", str(data))
    appender.succeeds("check")
    stored = _without_locks(place)
    appender.is_refused(place.server.log, "forget", "latest")
    appender.succeeds("unlock", "--remove-all")
    appender.is_refused(place.server.log, "forget", "--keep-last", "1", "--prune")
    assert _without_locks(place) == stored
    assert len(open_repository(place.directory).snapshots()) == 2
    place.restic("owner").succeeds("unlock", "--remove-all")
    place.restic("owner").succeeds("forget", "--keep-last", "1", "--prune")
    assert len(open_repository(place.directory).snapshots()) == 1


def test_a_reader_restores_and_changes_nothing(place: Place, data: Path, tmp_path: Path) -> None:
    """Reading needs no lock with --no-lock; every writing command is refused."""
    place.restic("owner").succeeds("init")
    place.restic("owner").succeeds("backup", str(data))
    reader = place.restic("reader")
    reader.succeeds("--no-lock", "restore", "latest", "--target", str(tmp_path / "out"))
    assert _same(tmp_path / "out" / data.relative_to("/"), data)
    reader.is_refused(place.server.log, "backup", str(data))
    reader.is_refused(place.server.log, "forget", "latest")
    assert len(open_repository(place.directory).snapshots()) == 1


def test_without_the_certificate_or_the_password_nothing_works(place: Place, tmp_path: Path) -> None:
    """A server that is not known, and a user who is not, are both refused."""
    owner = place.restic("owner")
    owner.succeeds("init")
    other, _ = certificate(tmp_path, name="other")
    stranger = RemoteRestic(owner.url, other).run("snapshots")
    assert stranger.returncode != 0
    assert "certificate" in stranger.stderr
    guessed = RemoteRestic(owner.url.replace(PASSWORD, "guessed"), place.ca).run("snapshots")
    assert guessed.returncode != 0
    assert "401" in guessed.stderr
    assert PASSWORD not in "".join(place.server.log)


def test_private_repositories_belong_to_their_user(tmp_path: Path, data: Path) -> None:
    """Each user has the paths below its own name, and no other."""
    ca, key = certificate(tmp_path)
    source = users(web=Right.FULL, db=Right.FULL)
    settings = {"certificate": ca, "certificate_key": key, "private_repositories": True}
    with served(tmp_path / "served", source, **settings) as server:
        place = Place(server, tmp_path / "served", ca)
        mine = place.restic("web")
        RemoteRestic(f"{mine.url}web/one", ca).succeeds("init")
        RemoteRestic(f"{mine.url}web/one", ca).succeeds("backup", str(data / "sub"))
        for path in ("", "db", "db/one"):
            RemoteRestic(f"{mine.url}{path}", ca).is_refused(server.log, "init")
        RemoteRestic(f"{place.restic('db').url}web/one", ca).is_refused(server.log, "snapshots")
    assert sorted(path.name for path in (tmp_path / "served").iterdir()) == ["web"]
