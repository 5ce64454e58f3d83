"""Restores of volumes beyond the contract: single files, exclusions, in place, mounts, no room."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from sheetanchor.components.base import TreeRestored
from sheetanchor.components.disk import explained
from sheetanchor.components.exchange import Exchange
from sheetanchor.components.volume import VolumeComponent, VolumeProof
from sheetanchor.components.work_folder import WorkFolder
from sheetanchor.config.models import VolumeConfig
from sheetanchor.errors import ComponentError, NothingThereError, ProofMismatchError
from support.component_cases import context
from support.directory_store import DirectorySource
from support.volume_cases import StoredVolume, VolumeCase, describe

TOKEN = "20240102T030405"


def test_include_puts_back_only_what_is_selected(tmp_path: Path) -> None:
    """Selected files come back with their directories; everything else stays; undo takes it all back."""
    stored = StoredVolume(tmp_path)
    inode = stored.live.stat().st_ino
    staged = stored.volume.stage(stored.source, stored.proof, TOKEN, include=["readme.txt", "/empty"])
    assert staged.verify(stored.proof) == ("2 selected entries equal in name, metadata and content",)
    staged.swap()
    assert (stored.live / "readme.txt").read_text() == "one\n"
    assert (stored.live / "empty").is_dir()
    assert (stored.live / "new.txt").read_text() == "made later"
    assert (stored.live / "photos" / "2024").read_text() == "a file now"
    assert stored.live.stat().st_ino == inode, "the directory itself stays"
    staged.undo()
    assert describe(stored.live) == stored.changed
    staged.swap()
    staged.discard()
    assert (stored.live / "readme.txt").read_text() == "one\n"
    assert stored.leftovers() == []


def test_include_replaces_what_became_another_type(tmp_path: Path) -> None:
    """A directory that is a file now is replaced whole, and the file comes back by undo."""
    stored = StoredVolume(tmp_path)
    staged = stored.volume.stage(stored.source, stored.proof, TOKEN, include=["*.jpg", "link"])
    staged.verify(stored.proof)
    staged.swap()
    assert sorted(os.listdir(stored.live / "photos" / "2024")) == ["a.jpg", "b.jpg"]
    assert os.readlink(stored.live / "link") == "readme.txt"
    staged.undo()
    assert describe(stored.live) == stored.changed


def test_include_never_follows_a_link_out_of_the_volume(tmp_path: Path) -> None:
    """Where a directory became a symbolic link, the link is replaced; what it leads to is not touched."""
    stored = StoredVolume(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (stored.live / "photos" / "2024").unlink()
    (stored.live / "photos" / "2024").symlink_to(outside)
    staged = stored.volume.stage(stored.source, stored.proof, TOKEN, include=["/photos/2024"])
    staged.swap()
    assert os.listdir(outside) == []
    assert (stored.live / "photos" / "2024" / "a.jpg").is_file()


def test_include_spoilt_stage_is_refused(tmp_path: Path) -> None:
    """Also a selection is read back before it goes live."""
    stored = StoredVolume(tmp_path)
    staged = stored.volume.stage(stored.source, stored.proof, TOKEN, include=["readme.txt"])
    VolumeCase(tmp_path, stored.live).tamper(TOKEN)
    with pytest.raises(ProofMismatchError, match=r"readme\.txt: content"):
        staged.verify(stored.proof)


def test_include_of_nothing_is_refused(tmp_path: Path) -> None:
    """A pattern that matches nothing in the backup is an error, not a restore of nothing."""
    stored = StoredVolume(tmp_path)
    with pytest.raises(NothingThereError, match=r"matches \*\.nope"):
        stored.volume.stage(stored.source, stored.proof, TOKEN, include=["*.nope"])
    stored.volume.resume(TOKEN).discard()
    assert describe(stored.live) == stored.changed
    assert stored.leftovers() == []


def test_excluded_files_stay(tmp_path: Path) -> None:
    """Excluded files are not in the backup: the restored directory keeps the live ones, times included."""
    stored = StoredVolume(tmp_path, "*.tmp", "/cache/")
    for path in ("top.tmp", "photos/deep.tmp", "later/below/x.tmp", "cache/a/b"):
        (stored.live / path).parent.mkdir(parents=True, exist_ok=True)
        (stored.live / path).write_text(path)
    (stored.live / "later").chmod(0o710)
    os.utime(stored.live / "photos", ns=(5, 5))
    changed = describe(stored.live)
    staged = stored.volume.stage(stored.source, stored.proof, TOKEN)
    staged.verify(stored.proof)
    staged.swap()
    for path in ("top.tmp", "photos/deep.tmp", "later/below/x.tmp", "cache/a/b"):
        assert (stored.live / path).read_text() == path
    assert (stored.live / "later").stat().st_mode & 0o7777 == 0o710
    assert not (stored.live / "new.txt").exists()
    assert stored.source.compare_tree("", stored.live)[0].what == "not in the backup"
    stored_time = (tmp_path / "store" / "photos").stat().st_mtime_ns
    assert (stored.live / "photos").stat().st_mtime_ns == stored_time
    staged.undo()
    assert describe(stored.live) == changed
    staged.swap()
    staged.verify(stored.proof)
    staged.discard()
    assert (stored.live / "cache" / "a" / "b").read_text() == "cache/a/b"
    assert stored.leftovers() == []


def test_excluded_file_without_a_place_is_refused(tmp_path: Path) -> None:
    """An excluded file in a directory that the backup has as a file is named, before anything moves."""
    stored = StoredVolume(tmp_path, "*.tmp")
    (stored.live / "readme.txt").unlink()
    (stored.live / "readme.txt").mkdir()
    (stored.live / "readme.txt" / "x.tmp").touch()
    changed = describe(stored.live)
    staged = stored.volume.stage(stored.source, stored.proof, TOKEN)
    with pytest.raises(ComponentError, match=r"readme\.txt/x\.tmp has no place"):
        staged.swap()
    assert describe(stored.live) == changed


def test_in_place_empties_and_writes(tmp_path: Path) -> None:
    """In place: nothing is written beside, excluded files stay, undo says that there is no way back."""
    stored = StoredVolume(tmp_path, "*.tmp")
    (stored.live / "photos" / "keep.tmp").write_text("kept")
    changed = describe(stored.live)
    staged = stored.volume.stage(stored.source, stored.proof, TOKEN, in_place=True)
    assert "in place" in staged.verify(stored.proof)[0]
    assert describe(stored.live) == changed
    staged.undo()
    staged.swap()
    (stored.live / "photos" / "keep.tmp").unlink()
    os.utime(stored.live / "photos", ns=(1, (tmp_path / "store" / "photos").stat().st_mtime_ns))
    assert describe(stored.live) == stored.before
    with pytest.raises(ComponentError, match="in place, so its old files are gone"):
        staged.undo()
    staged.discard()
    assert stored.leftovers() == []


class LostSource(DirectorySource):
    """A backup that is there for the plan, and gone when it is read."""

    def restore_tree(self, path: str, directory: Path, *, include: Sequence[str] = ()) -> TreeRestored:
        """Fail as a storage that went away."""
        raise ComponentError("the storage went away")


def test_in_place_that_fails_can_be_gone_on_with(tmp_path: Path) -> None:
    """When the backup gives out after the live files are gone, no step pretends; another swap completes."""
    stored = StoredVolume(tmp_path)
    lost = LostSource(stored.source.directory)
    staged = stored.volume.stage(lost, stored.proof, TOKEN, in_place=True)
    with pytest.raises(ComponentError, match="the storage went away"):
        staged.swap()
    assert os.listdir(stored.live) == []
    with pytest.raises(ComponentError, match="its old files are gone"):
        stored.volume.resume(TOKEN).undo()
    with pytest.raises(ComponentError, match="neither the old nor the new"):
        stored.volume.resume(TOKEN).discard()
    with pytest.raises(ComponentError, match="was interrupted when files"):
        stored.volume.stage(stored.source, stored.proof, TOKEN, in_place=True)
    stored.volume.resume(TOKEN, stored.source).swap()
    assert describe(stored.live) == stored.before
    stored.volume.resume(TOKEN).discard()
    assert stored.leftovers() == []


def test_missing_volume_is_made_and_unmade(tmp_path: Path) -> None:
    """A restore makes what is lost, parents too; undo and discard leave nothing that was not there."""
    stored = StoredVolume(tmp_path)
    os.rename(tmp_path / "srv", tmp_path / "lost")
    staged = stored.volume.stage(stored.source, stored.proof, TOKEN)
    staged.verify(stored.proof)
    staged.swap()
    assert describe(stored.live) == stored.before
    staged.undo()
    assert not stored.live.exists()
    staged.discard()
    assert not (tmp_path / "srv").exists()
    again = stored.volume.stage(stored.source, stored.proof, "another")
    again.swap()
    again.discard()
    assert describe(stored.live) == stored.before


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    """A file where the volume has to be is not silently replaced."""
    stored = StoredVolume(tmp_path)
    os.rename(stored.live, tmp_path / "aside")
    stored.live.write_text("a file")
    with pytest.raises(ComponentError, match="not a directory"):
        stored.volume.stage(stored.source, stored.proof, TOKEN)
    assert stored.live.read_text() == "a file"


def test_link_to_the_volume_stays_a_link(tmp_path: Path) -> None:
    """A configured path that is a symbolic link is resolved once; the link survives the restore."""
    stored = StoredVolume(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(stored.live)
    config = VolumeConfig(name="uploads", type="volume", path=link)
    volume = VolumeComponent(config, context(tmp_path))
    staged = volume.stage(stored.source, stored.proof, TOKEN)
    staged.swap()
    volume.resume(TOKEN).discard()
    assert os.readlink(link) == os.fspath(stored.live)
    assert describe(stored.live) == stored.before


def test_nothing_is_live_is_said(tmp_path: Path) -> None:
    """Steps on a token that was never staged, or is discarded, raise instead of seeming to work."""
    stored = StoredVolume(tmp_path)
    never = stored.volume.resume("never")
    for step in (never.swap, never.undo, lambda: never.verify(stored.proof)):
        with pytest.raises(ComponentError, match="no whole staged tree"):
            step()
    never.discard()
    assert describe(stored.live) == stored.changed


def test_verify_after_a_crash_needs_the_backup(tmp_path: Path) -> None:
    """Without the backup a resumed verify says so: counting files would not prove their content."""
    stored = StoredVolume(tmp_path)
    stored.volume.stage(stored.source, stored.proof, TOKEN)
    with pytest.raises(ComponentError, match="the backup is needed"):
        stored.volume.resume(TOKEN).verify(stored.proof)


def test_verify_refuses_a_backup_of_another_tree(tmp_path: Path) -> None:
    """A backup that does not fit the manifest's proof is refused, even if it restores."""
    stored = StoredVolume(tmp_path)
    staged = stored.volume.stage(stored.source, stored.proof, TOKEN)
    other = VolumeProof.model_validate({**stored.proof.model_dump(), "files": stored.proof.files + 1})
    with pytest.raises(ProofMismatchError, match="manifest says 7"):
        staged.verify(other)


def test_estimate_names_leftovers_and_exclusions(tmp_path: Path) -> None:
    """The plan tells of an earlier restore's folder and of the files that stay."""
    stored = StoredVolume(tmp_path, "*.tmp")
    stored.volume.stage(stored.source, stored.proof, "earlier")
    notes = " ".join(stored.volume.estimate(stored.source, stored.proof, in_place=False).all_notes)
    assert "left by an earlier restore" in notes
    assert "*.tmp are not in the backup and stay" in notes


def test_exchange_by_two_renames_survives_every_cut(tmp_path: Path) -> None:
    """Where the kernel cannot exchange names, each state between the renames leads on and back."""
    for cut in ("nothing", "old moved", "both moved"):
        for direction in ("forward", "back"):
            place = tmp_path / f"{cut} {direction}"
            folder = WorkFolder(place / "work")
            folder.new.mkdir(parents=True)
            (folder.new / "new").touch()
            live = place / "live"
            live.mkdir()
            (live / "old").touch()
            found = folder.new.stat()
            if cut != "nothing":
                live.rename(folder.old)
            if cut == "both moved":
                folder.new.rename(live)
            swap = Exchange(
                live,
                folder,
                had_live=True,
                identity=(found.st_dev, found.st_ino),
                exchange_names=lambda _first, _second: False,
            )
            (swap.forward if direction == "forward" else swap.back)()
            (swap.forward if direction == "forward" else swap.back)()
            assert os.listdir(live) == ["new" if direction == "forward" else "old"]
            assert sorted(os.listdir(folder.path)) == ["old" if direction == "forward" else "new"]


def test_disk_errors_are_one_line(tmp_path: Path) -> None:
    """An error of the operating system becomes one line with the place, never a traceback."""
    with pytest.raises(ComponentError, match=r"uploads: .*missing: No such file"), explained("uploads"):
        os.stat(tmp_path / "missing")
