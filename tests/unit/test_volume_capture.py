"""What a volume refuses to capture, and what it says about what it captured."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from sheetanchor.components.base import IncompleteCaptureError
from sheetanchor.components.volume import VolumeComponent, VolumeProof
from sheetanchor.config.models import VolumeConfig
from sheetanchor.errors import ComponentError, NothingThereError, UnreachableError
from support.component_cases import context
from support.directory_store import DirectorySink, DirectorySource
from support.programs import require_root
from support.volume_cases import fill, make_socket, mounted

NOBODY = 65534


def _volume(tmp_path: Path, path: Path, *exclude: str) -> VolumeComponent:
    config = VolumeConfig(name="uploads", type="volume", path=path, exclude=exclude)
    return VolumeComponent(config, context(tmp_path))


def _capture(
    tmp_path: Path, volume: VolumeComponent, previous: VolumeProof | None = None, *, lenient: bool = False
) -> VolumeProof:
    shutil.rmtree(tmp_path / "store", ignore_errors=True)
    return volume.capture(DirectorySink(tmp_path / "store"), previous, lenient=lenient)


def test_proof_counts_what_is_there(tmp_path: Path) -> None:
    """Counts and bytes are those of the tree; sockets are counted, not stored; excluded files are neither."""
    live = tmp_path / "live"
    live.mkdir()
    (live / "a").write_bytes(b"x" * 2048)
    (live / "b.tmp").write_bytes(b"y")
    (live / "link").symlink_to("a")
    make_socket(live / "socket")
    proof = _capture(tmp_path, _volume(tmp_path, live, "*.tmp"))
    assert (proof.files, proof.directories, proof.others, proof.num_bytes) == (1, 1, 1, 2048)
    assert proof.skipped_sockets == 1
    assert proof.summary() == "1 file, 2.0 KiB"
    assert sorted(os.listdir(tmp_path / "store")) == ["a", "link"]


def test_missing_directory_is_nothing_there(tmp_path: Path) -> None:
    """A volume that has vanished is an error of its own kind, also for a lenient capture."""
    volume = _volume(tmp_path, tmp_path / "gone")
    for lenient in (False, True):
        with pytest.raises(NothingThereError, match="gone does not exist"):
            _capture(tmp_path, volume, lenient=lenient)
    with pytest.raises(UnreachableError, match="gone does not exist"):
        volume.check()


def test_dangling_link_is_refused(tmp_path: Path) -> None:
    """A link that leads nowhere is named with its target, at capture and at restore."""
    (tmp_path / "link").symlink_to(tmp_path / "unmounted")
    volume = _volume(tmp_path, tmp_path / "link")
    with pytest.raises(NothingThereError, match=r"symbolic link to .*unmounted, which does not exist"):
        _capture(tmp_path, volume)
    (tmp_path / "store").mkdir(exist_ok=True)
    with pytest.raises(NothingThereError, match="symbolic link"):
        volume.stage(DirectorySource(tmp_path / "store"), _empty_proof(), "t1")


def test_file_is_refused(tmp_path: Path) -> None:
    """A file is no volume; the hint names what to use instead."""
    (tmp_path / "file").touch()
    with pytest.raises(ComponentError, match="is not a directory") as refused:
        _capture(tmp_path, _volume(tmp_path, tmp_path / "file"))
    assert "configs" in str(refused.value.hint)


def test_link_to_a_directory_is_followed(tmp_path: Path) -> None:
    """A volume's path may be a link; what it leads to is captured with its own attributes."""
    (tmp_path / "real").mkdir(mode=0o710)
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "link").symlink_to("real")
    proof = _capture(tmp_path, _volume(tmp_path, tmp_path / "link"))
    assert proof.files == 1
    assert (tmp_path / "store").stat().st_mode & 0o7777 == 0o710


def test_suddenly_empty_is_refused(tmp_path: Path) -> None:
    """Empty where the last backup was not is a failure; a lenient capture says so in a warning."""
    live = tmp_path / "live"
    live.mkdir()
    fill(live)
    volume = _volume(tmp_path, live)
    full = _capture(tmp_path, volume)
    shutil.rmtree(live)
    live.mkdir()
    with pytest.raises(ComponentError, match=r"is empty; the last backup held 6 files"):
        _capture(tmp_path, volume, full)
    lenient = _capture(tmp_path, volume, full, lenient=True)
    assert any("is empty" in warning for warning in lenient.warnings)
    assert _capture(tmp_path, volume).empty, "a volume that was never full may be empty"


def test_lost_mount_is_refused(tmp_path: Path) -> None:
    """A directory that was a mount point and is none now shows another disk's files."""
    live = tmp_path / "live"
    live.mkdir()
    volume = _volume(tmp_path, live)
    with mounted(["-t", "tmpfs", "-o", "size=1m", "tmpfs", os.fspath(live)], live):
        (live / "file").write_text("x")
        proof = _capture(tmp_path, volume)
        assert proof.mount_point
        assert _capture(tmp_path, volume, proof).mount_point
        assert "mount point" in volume.check()
    (live / "stray").write_text("written while unmounted")
    with pytest.raises(ComponentError, match="no mount point any more"):
        _capture(tmp_path, volume, proof)


@pytest.mark.parametrize("place", [".", "pgdata", "18/docker"])
def test_running_postgres_is_refused(tmp_path: Path, place: str) -> None:
    """The files of a running PostgreSQL server are no backup; a stopped one's may be copied."""
    live = tmp_path / "live"
    cluster = live / place
    (cluster / "global").mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("15\n")
    (cluster / "global" / "pg_control").touch()
    volume = _volume(tmp_path, live)
    _capture(tmp_path, volume)
    (cluster / "postmaster.pid").write_text("1\n")
    with pytest.raises(ComponentError, match="running PostgreSQL") as refused:
        _capture(tmp_path, volume)
    assert "type postgres" in str(refused.value.hint)


def test_unreadable_file_fails_after_the_rest_is_stored(tmp_path: Path) -> None:
    """What cannot be read is named; everything else is in the sink; lenient makes it a warning."""
    require_root()
    # pytest's own directories are closed to the user that this runs as.
    with tempfile.TemporaryDirectory() as place:
        live, store = Path(place) / "live", Path(place) / "store"
        live.mkdir()
        store.mkdir()
        (live / "readable").write_text("x")
        (live / "secret").write_text("y")
        (live / "secret").chmod(0)
        os.chown(place, NOBODY, NOBODY)
        os.chown(store, NOBODY, NOBODY)
        volume = _volume(tmp_path, live)
        os.seteuid(NOBODY)
        try:
            with pytest.raises(IncompleteCaptureError, match=r"could not be read: .*secret") as failure:
                volume.capture(DirectorySink(store))
            assert os.listdir(store) == ["readable"]
            (store / "readable").unlink()
            lenient = volume.capture(DirectorySink(store), lenient=True)
        finally:
            os.seteuid(0)
    assert isinstance(failure.value.proof, VolumeProof)
    assert failure.value.proof.files == 1
    assert any("secret" in warning for warning in lenient.warnings)


def test_work_folders_are_never_captured(tmp_path: Path) -> None:
    """What an interrupted restore left in a mounted volume is not taken for the user's files."""
    live = tmp_path / "live"
    (live / ".sheetanchor-20240102" / "new").mkdir(parents=True)
    (live / ".sheetanchor-20240102" / "new" / "copy").write_text("x")
    (live / "file").write_text("x")
    assert _capture(tmp_path, _volume(tmp_path, live)).files == 1


def _empty_proof() -> VolumeProof:
    return VolumeProof(tree="0" * 64, files=0, directories=1, others=0, num_bytes=0)
