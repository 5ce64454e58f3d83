"""We read what stock restic writes, in both format versions and with any compression."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import nasty_tree
from support.programs import require_root
from support.repositories import back_up, open_repository, restic

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("version", "compression"), [("1", "auto"), ("2", "off"), ("2", "auto"), ("2", "max")]
)
def test_a_repository_made_by_restic(tmp_path: Path, version: str, compression: str) -> None:
    """Everything that restic stored is restored, compared and checked by us."""
    require_root()
    source, place = tmp_path / "source", tmp_path / "repository"
    nasty_tree.make(source)
    # restic 0.14 loses link targets that are no UTF-8 when it writes.
    (source / "dangling").unlink()
    restic(place, "init", "--repository-version", version)
    options = ["--compression", compression] if version == "2" else []
    restic(place, *options, "backup", str(source))
    repository = open_repository(place)
    assert repository.version == int(version)
    snapshot = repository.find_snapshot("latest")
    assert repository.check(read_data=True).errors == ()
    reader = repository.reader()
    restored = reader.restore_tree(snapshot.snapshot.tree, str(source), tmp_path / "out")
    assert restored.warnings == ()
    assert nasty_tree.describe(tmp_path / "out") == nasty_tree.describe(source)
    assert reader.compare_tree(snapshot.snapshot.tree, str(source), source) == []


def test_our_chunks_and_those_of_restic_live_side_by_side(tmp_path: Path) -> None:
    """A backup of ours into a repository of restic's is clean for restic's own check."""
    nasty_tree.make(tmp_path / "source")
    restic(tmp_path / "repository", "init", "--repository-version", "2")
    restic(tmp_path / "repository", "backup", str(tmp_path / "source"))
    repository = open_repository(tmp_path / "repository")
    back_up(repository, tmp_path / "source")
    restic(tmp_path / "repository", "check", "--read-data")
    assert len(repository.snapshots()) == 2
