"""Volumes that are mount points, or hold some, or have no room left."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sheetanchor.errors import ComponentError, NoSpaceError
from support.directory_store import DirectorySink, DirectorySource
from support.volume_cases import StoredVolume, describe, mounted

TOKEN = "20240102T030405"


@pytest.mark.parametrize("bind", [False, True])
def test_mount_inside_the_volume_is_refused(tmp_path: Path, bind: bool) -> None:
    """A file system mounted below would move with a rename, and be emptied by a discard: refused."""
    stored = StoredVolume(tmp_path)
    point = stored.live / "photos"
    (tmp_path / "other").mkdir()
    tmpfs = ["-t", "tmpfs", "-o", "size=1m", "tmpfs"]
    arguments = ["--bind", os.fspath(tmp_path / "other")] if bind else tmpfs
    with mounted([*arguments, os.fspath(point)], point):
        (point / "precious").write_text("on the other disk")
        estimate = stored.volume.estimate(stored.source, stored.proof, in_place=False)
        assert "mounted inside" in estimate.refusals[0]
        for in_place in (False, True):
            with pytest.raises(ComponentError, match="mounted inside"):
                stored.volume.stage(stored.source, stored.proof, TOKEN, in_place=in_place)
        assert (point / "precious").exists()


def test_mount_that_appears_after_staging_is_refused(tmp_path: Path) -> None:
    """The swap looks again: the plan may be hours old."""
    stored = StoredVolume(tmp_path)
    staged = stored.volume.stage(stored.source, stored.proof, TOKEN)
    point = stored.live / "photos"
    with mounted(["-t", "tmpfs", "-o", "size=1m", "tmpfs", os.fspath(point)], point):
        (point / "precious").write_text("x")
        with pytest.raises(ComponentError, match="mounted inside"):
            staged.swap()
        assert (point / "precious").exists()


def test_bind_mounted_volume_is_swapped_entry_by_entry(tmp_path: Path) -> None:
    """A bind mount of the same disk is a mount point too, though its device number does not tell."""
    (tmp_path / "real").mkdir()
    live = tmp_path / "srv" / "uploads"
    live.mkdir(parents=True)
    with mounted(["--bind", os.fspath(tmp_path / "real"), os.fspath(live)], live):
        stored = StoredVolume(tmp_path)
        assert stored.proof.mount_point
        staged = stored.volume.stage(stored.source, stored.proof, TOKEN)
        staged.verify(stored.proof)
        staged.swap()
        staged.discard()
        assert describe(live) == stored.before
        assert describe(tmp_path / "real") == stored.before
        assert stored.leftovers() == []


def test_entry_that_appears_during_an_entry_swap_is_not_overwritten(tmp_path: Path) -> None:
    """Something still writing into a mounted volume is found out; after it is moved the swap goes on."""
    live = tmp_path / "srv" / "uploads"
    live.mkdir(parents=True)
    with mounted(["-t", "tmpfs", "-o", "size=16m", "tmpfs", os.fspath(live)], live):
        stored = StoredVolume(tmp_path)
        staged = stored.volume.stage(stored.source, stored.proof, TOKEN)
        staged.swap()
        staged.undo()
        staged.swap()
        staged.undo()
        # As if a service had written just between "old out" and "new in":
        folder = live / f".sheetanchor-{TOKEN}"
        (folder / "old").mkdir(exist_ok=True)
        journal = (folder / "journal").read_text().replace('"phase": "staged"', '"phase": "swapping"')
        (folder / "journal").write_text(journal)
        os.rename(live / "readme.txt", folder / "old" / "readme.txt")
        (live / "readme.txt").write_text("the service wrote this")
        with pytest.raises(ComponentError, match=r"readme\.txt appeared while"):
            stored.volume.resume(TOKEN).swap()
        assert (live / "readme.txt").read_text() == "the service wrote this"
        shutil.move(live / "readme.txt", tmp_path / "aside")
        stored.volume.resume(TOKEN).swap()
        assert describe(live) == stored.before
        stored.volume.resume(TOKEN).undo()
        assert describe(live) == stored.changed


def test_no_room_is_refused_by_the_plan_and_by_the_stage(tmp_path: Path) -> None:
    """Where two copies do not fit, the plan says so and offers in place; a stage that hits the end too."""
    live = tmp_path / "srv" / "uploads"
    live.mkdir(parents=True)
    with mounted(["-t", "tmpfs", "-o", "size=1m", "tmpfs", os.fspath(live)], live):
        stored = StoredVolume(tmp_path)
        (live / "big").write_bytes(b"x" * 900_000)
        proof = stored.volume.capture(DirectorySink(tmp_path / "big store"))
        source = DirectorySource(tmp_path / "big store")
        before = describe(live)
        estimate = stored.volume.estimate(source, proof, in_place=False)
        assert "use --in-place" in estimate.refusals[0]
        assert estimate.free_bytes is not None
        assert estimate.needed_bytes > estimate.free_bytes
        with pytest.raises(NoSpaceError) as full:
            stored.volume.stage(source, proof, TOKEN)
        assert "--in-place" in str(full.value.hint)
        stored.volume.resume(TOKEN).discard()
        assert describe(live) == before
        assert stored.leftovers() == []
        assert stored.volume.estimate(source, proof, in_place=True).refusals == ()
        staged = stored.volume.stage(source, proof, TOKEN, in_place=True)
        staged.swap()
        staged.discard()
        assert describe(live) == before
