"""A worker of a run, by the repository's own engine: it adds packs and indexes, and nothing counts yet."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sheetanchor.errors import BackendError, FinalBackendError, ReadOnlyBackendError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.server.rights import Right
from sheetanchor.secret import Secret
from support.repositories import create, draft, open_repository, restic
from support.rest_server import served, users


def test_a_worker_writes_and_the_controller_commits(tmp_path: Path) -> None:
    """The worker's tree becomes a snapshot only by the controller; stock restic restores it."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_bytes(bytes(range(256)) * 20_000)
    served_directory = tmp_path / "repository"
    with served(served_directory, users(worker=Right.RUN, controller=Right.FULL)) as server:
        create(server.backend("", "controller"))
        worker = open_repository(server.backend("", "worker"))
        with worker.lock(), worker.writer() as session:
            writer = session.tree("/volumes/data")
            writer.write_directory("", data)
            tree = writer.finish()
            session.flush()
            assert len(list((served_directory / "locks").iterdir())) == 1
            with pytest.raises(ReadOnlyBackendError):
                worker.save_snapshot(draft(tree, "/volumes/data"))
        assert list((served_directory / "locks").iterdir()) == []
        with pytest.raises(BackendError):
            worker.keyring.add(Secret("another"))
        stolen = server.backend("", "worker")
        (pack, *_) = [path.name for path in (served_directory / "data").rglob("*") if path.is_file()]
        with pytest.raises(FinalBackendError, match="403"):
            stolen.get(Kind.DATA, pack)
        controller = open_repository(server.backend("", "controller"))
        with controller.lock(), controller.writer():
            controller.save_snapshot(draft(tree, "/volumes/data"))
    restic(served_directory, "check", "--read-data")
    restic(served_directory, "restore", "latest", "--target", str(tmp_path / "out"))
    restored = tmp_path / "out" / "volumes" / "data"
    assert subprocess.run(["diff", "-r", str(restored), str(data)], check=False).returncode == 0
