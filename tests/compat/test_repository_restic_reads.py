"""Stock restic reads what we write: nobody needs this program to get a backup back."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from sheetanchor.repository.codec import Compression
from support import nasty_tree
from support.programs import require_root
from support.repositories import back_up, create, draft, restic

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("version", "compression"),
    [(2, Compression.AUTO), (2, Compression.MAX), (2, Compression.OFF), (1, Compression.AUTO)],
)
def test_restic_restores_a_tree_exactly(tmp_path: Path, version: int, compression: Compression) -> None:
    """restic check --read-data is clean, and restic restore brings back every byte and attribute."""
    require_root()
    nasty_tree.make(tmp_path / "source")
    before = nasty_tree.describe(tmp_path / "source")
    repository = create(tmp_path / "repository", version=version, compression=compression)
    snapshot, saved = back_up(repository, tmp_path / "source")
    assert saved.failures == ()
    assert saved.warnings == ()
    restic(tmp_path / "repository", "check", "--read-data")
    restic(tmp_path / "repository", "restore", snapshot.id.hex(), "--target", str(tmp_path / "out"))
    restored = nasty_tree.describe(tmp_path / "out" / "volumes" / "data")
    # restic 0.14 keeps link targets as text and loses those that are no UTF-8; newer ones do not.
    assert restored.keys() == before.keys()
    different = {path for path in before if restored[path] != before[path]}
    assert different <= {b"dangling"}


def test_a_second_backup_adds_almost_nothing(tmp_path: Path) -> None:
    """An unchanged tree with a parent makes the same tree id, opens no file and adds no data."""
    nasty_tree.make(tmp_path / "source")
    repository = create(tmp_path / "repository")
    first, saved = back_up(repository, tmp_path / "source")
    with repository.writer() as session:
        writer = session.tree("/volumes/data")
        again = writer.write_directory("", tmp_path / "source", parent=first.snapshot.tree)
        assert writer.finish() == first.snapshot.tree
        session.flush()
        assert session.statistics.bytes_added == 0
        assert session.statistics.bytes_read == 0
    assert again.tree == saved.tree
    assert again.unmodified == saved.files
    assert again.num_bytes == saved.num_bytes


def test_streams_trees_and_files_side_by_side(tmp_path: Path) -> None:
    """Streams, single files and directories in one snapshot are listed and dumped by restic."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("alpha")
    (tmp_path / "compose.yml").write_text("services: {}\n")
    data = os.urandom(3 << 20)
    repository = create(tmp_path / "repository")
    with repository.writer() as session:
        writer = session.tree("/postgres/main")
        stream = writer.write_stream("shop.dump", io.BytesIO(data))
        writer.write_directory("extra/files", tmp_path / "source")
        writer.write_file("compose.yml", tmp_path / "compose.yml")
        tree = writer.finish()
        session.flush()
        repository.save_snapshot(draft(tree, "/postgres/main"))
    assert stream.size == len(data)
    listed = restic(tmp_path / "repository", "ls", "--json", "latest").stdout.splitlines()
    paths = {json.loads(line).get("path") for line in listed[1:]}
    assert paths == {
        "/postgres",
        "/postgres/main",
        "/postgres/main/compose.yml",
        "/postgres/main/extra",
        "/postgres/main/extra/files",
        "/postgres/main/extra/files/a",
        "/postgres/main/shop.dump",
    }
    restic(tmp_path / "repository", "restore", "latest", "--target", str(tmp_path / "out"))
    assert (tmp_path / "out/postgres/main/shop.dump").read_bytes() == data
    assert (tmp_path / "out/postgres/main/compose.yml").read_text() == "services: {}\n"


def test_restic_forgets_and_prunes_our_snapshots(tmp_path: Path) -> None:
    """restic forget --prune repacks our packs, and what stays is still whole for both."""
    nasty_tree.make(tmp_path / "source")
    repository = create(tmp_path / "repository")
    back_up(repository, tmp_path / "source")
    (tmp_path / "source" / "big.bin").write_bytes(os.urandom(5 << 20))
    kept, _ = back_up(repository, tmp_path / "source")
    restic(tmp_path / "repository", "forget", "--keep-last", "1", "--group-by", "", "--prune")
    restic(tmp_path / "repository", "check", "--read-data")
    report = repository.check(read_data=True)
    assert report.errors == ()
    assert report.snapshots == 1
    repository.reader().restore_tree(kept.snapshot.tree, "/volumes/data", tmp_path / "out")
    assert nasty_tree.describe(tmp_path / "out") == nasty_tree.describe(tmp_path / "source")
