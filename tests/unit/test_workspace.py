"""Work directories: private, removed, and swept when a crash has left them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sheetanchor.components.workspace import LOCK_NAME, workspace


def test_workspace_is_removed_also_after_an_error(tmp_path: Path) -> None:
    """Nothing stays, however the work ends."""
    with pytest.raises(FileNotFoundError), workspace(tmp_path / "new", "cache") as directory:
        os.rename(directory / "missing", directory / "dump.rdb")
    assert list((tmp_path / "new").iterdir()) == []


def test_what_a_crash_left_is_swept(tmp_path: Path) -> None:
    """A directory whose lock nobody holds is removed; one in use, or of another name, is not."""
    left = tmp_path / "cache-abc"
    other = tmp_path / "other-abc"
    for directory in (left, other):
        directory.mkdir()
        (directory / LOCK_NAME).touch()
    with workspace(tmp_path, "cache") as first:
        assert not left.exists()
        with workspace(tmp_path, "cache") as second:
            assert first.is_dir()
            assert second != first
    assert list(tmp_path.iterdir()) == [other]
