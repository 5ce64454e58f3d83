"""Configuration files beyond the contract: what is missing, foreign, linked, selected, mounted."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheetanchor.components.base import Entry, EntryType, TreeSaved
from sheetanchor.components.configs import ConfigsComponent, ConfigsProof
from sheetanchor.components.configs.paths import outermost, path_of, proof_path
from sheetanchor.config.models import ConfigsConfig
from sheetanchor.errors import ComponentError, NothingThereError, ProofMismatchError, UnreachableError
from support.component_cases import context
from support.directory_store import DirectorySink, DirectorySource
from support.volume_cases import mounted

TOKEN = "20240102T030405"


def _configs(tmp_path: Path, *paths: Path) -> ConfigsComponent:
    return ConfigsComponent(ConfigsConfig(name="configs", type="configs", paths=paths), context(tmp_path))


def _captured(tmp_path: Path, configs: ConfigsComponent) -> tuple[DirectorySource, ConfigsProof]:
    proof = configs.capture(DirectorySink(tmp_path / "store"))
    return DirectorySource(tmp_path / "store"), proof


def test_files_are_stored_at_their_full_path(tmp_path: Path) -> None:
    """Anyone with stock tools finds a file below the root at the path it came from."""
    file = tmp_path / "etc" / "app.yml"
    file.parent.mkdir()
    file.write_text("a: 1\n")
    source, proof = _captured(tmp_path, _configs(tmp_path, file))
    assert (source.directory / os.fspath(file).lstrip("/")).read_text() == "a: 1\n"
    assert proof.files[0].path == os.fspath(file)
    assert proof.summary() == "1 file"


def test_missing_file_fails_and_is_named(tmp_path: Path) -> None:
    """A configured file that is gone is a failure, never a smaller backup; lenient: a warning."""
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.touch()
    configs = _configs(tmp_path, there, gone)
    with pytest.raises(ComponentError, match=r"missing: .*gone$"):
        configs.capture(DirectorySink(tmp_path / "store"))
    with pytest.raises(UnreachableError, match="gone"):
        configs.check()
    lenient = configs.capture(DirectorySink(tmp_path / "store"), lenient=True)
    assert lenient.warnings == (f"{gone} is missing",)
    there.unlink()
    with pytest.raises(NothingThereError):
        configs.capture(DirectorySink(tmp_path / "store2"), lenient=True)


def test_paths_that_are_no_files_are_refused(tmp_path: Path) -> None:
    """A FIFO in the list would hang a reader: it is refused by name."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ComponentError, match="pipe is neither a file nor a directory"):
        _configs(tmp_path, tmp_path / "pipe").capture(DirectorySink(tmp_path / "store"))


def test_link_stays_a_link(tmp_path: Path) -> None:
    """What a link leads to is saved and replaced; the link itself is not touched, gone targets come back."""
    (tmp_path / "versions").mkdir()
    target, link = tmp_path / "versions" / "1.yml", tmp_path / "current.yml"
    target.write_text("one")
    link.symlink_to("versions/1.yml")
    configs = _configs(tmp_path, link)
    source, proof = _captured(tmp_path, configs)
    for lose in (lambda: target.write_text("two"), target.unlink):
        lose()
        staged = configs.stage(source, proof, TOKEN)
        staged.verify(proof)
        staged.swap()
        staged.discard()
        assert os.readlink(link) == "versions/1.yml"
        assert target.read_text() == "one"


def test_only_listed_paths_are_restored(tmp_path: Path) -> None:
    """A backup cannot write to a path that this configuration does not list; the plan names it."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("1")
    second.write_text("2")
    source, proof = _captured(tmp_path, _configs(tmp_path, first, second))
    third = tmp_path / "third"
    third.write_text("3")
    first.write_text("changed")
    second.write_text("changed")
    here = _configs(tmp_path, first, third)
    notes = here.estimate(source, proof, in_place=False).all_notes
    assert any("not listed here" in note and "second" in note for note in notes)
    assert any("stays as it is" in note and "third" in note for note in notes)
    staged = here.stage(source, proof, TOKEN)
    staged.verify(proof)
    staged.swap()
    staged.discard()
    assert (first.read_text(), second.read_text(), third.read_text()) == ("1", "changed", "3")
    none = _configs(tmp_path, third).estimate(source, proof, in_place=False)
    assert "none of the paths" in none.refusals[0]


def test_include_selects_among_the_paths(tmp_path: Path) -> None:
    """`include` matches names and paths of listed files; a pattern without a match is refused."""
    first, second = tmp_path / "a.yml", tmp_path / "b.conf"
    first.write_text("1")
    second.write_text("2")
    configs = _configs(tmp_path, first, second)
    source, proof = _captured(tmp_path, configs)
    first.write_text("changed")
    second.write_text("changed")
    staged = configs.stage(source, proof, TOKEN, include=["*.yml"])
    assert "1 path equal" in staged.verify(proof)[0]
    staged.swap()
    staged.discard()
    assert (first.read_text(), second.read_text()) == ("1", "changed")
    with pytest.raises(NothingThereError):
        configs.stage(source, proof, TOKEN, include=["*.nope"])


def test_half_staged_set_is_never_swapped(tmp_path: Path) -> None:
    """When one of the staged files is gone, none goes live."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("1")
    second.write_text("2")
    configs = _configs(tmp_path, first, second)
    source, proof = _captured(tmp_path, configs)
    first.write_text("changed")
    configs.stage(source, proof, TOKEN)
    for file in (tmp_path / f".second.sheetanchor-{TOKEN}").iterdir():
        file.unlink()
    with pytest.raises(ComponentError, match="no whole set"):
        configs.resume(TOKEN).swap()
    assert first.read_text() == "changed"


def test_every_attribute_of_a_staged_file_counts(tmp_path: Path) -> None:
    """Content, mode and time of a staged file are each held against the proof."""
    file = tmp_path / "file"
    file.write_text("abc")
    configs = _configs(tmp_path, file)
    source, proof = _captured(tmp_path, configs)
    new = tmp_path / f".file.sheetanchor-{TOKEN}" / "new"
    spoils = {
        "content": lambda: (new.write_text("abd"), os.utime(new, ns=(1, proof.files[0].mtime_ns))),
        "mode": lambda: new.chmod(0o777),
        "time": lambda: os.utime(new, ns=(1, 1)),
        "size": lambda: new.write_text("abcd"),
    }
    for what, spoil in spoils.items():
        staged = configs.stage(source, proof, TOKEN)
        staged.verify(proof)
        spoil()
        with pytest.raises(ProofMismatchError, match=what):
            staged.verify(proof)


def test_bind_mounted_file_is_refused(tmp_path: Path) -> None:
    """A file that is a mount point cannot be renamed: the plan and the stage say so."""
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("1")
    other.write_text("1")
    configs = _configs(tmp_path, file)
    source, proof = _captured(tmp_path, configs)
    with mounted(["--bind", os.fspath(other), os.fspath(file)], file):
        assert "mount point" in configs.estimate(source, proof, in_place=False).refusals[0]
        with pytest.raises(ComponentError, match="mount point"):
            configs.stage(source, proof, TOKEN)


class CollectingSink:
    """Reads what it is given, as every sink does, and keeps the entries."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes | None] = {}

    def write_entries(self, _path: str, entries: object) -> TreeSaved:
        """Read every entry."""
        for entry, stream in entries:  # type: ignore[attr-defined]
            self.stored[os.fsdecode(entry.path)] = stream.read() if stream is not None else None
        return TreeSaved("0" * 64, len(self.stored), 0, 0, 0, 0, (), ())


def test_archive_gives_only_listed_paths(tmp_path: Path) -> None:
    """From a portable archive only listed paths are taken; their proof equals that of a capture."""
    file, tree = tmp_path / "file", tmp_path / "tree"
    file.write_text("abc")
    tree.mkdir()
    (tree / "x").write_text("xyz")
    configs = _configs(tmp_path, file, tree)
    source, proof = _captured(tmp_path, configs)
    entries: list[tuple[Entry, io.BytesIO | None]] = []
    for entry in source.walk():
        content = None
        if entry.type is EntryType.FILE:
            with source.open(entry.path) as stream:
                content = io.BytesIO(stream.read())
        entries.append((entry, content))
    stray = entries[-1][0].__class__(**{**vars(entries[-1][0]), "path": b"etc/shadow"})
    entries.append((stray, io.BytesIO(b"root::0")))
    sink = CollectingSink()
    imported = configs.import_entries(entries, sink)
    assert imported.differences(proof) == []
    assert "etc/shadow" not in sink.stored
    assert sink.stored[os.fspath(file).lstrip("/")] == b"abc"
    with pytest.raises(ComponentError, match="none of the paths"):
        _configs(tmp_path, tmp_path / "else").import_entries([], CollectingSink())


def test_nested_paths_are_stored_once() -> None:
    """A path inside another listed directory is that directory's; doubles count once."""
    listed = [Path("/etc/app/x"), Path("/etc/app"), Path("/etc/app/../app"), Path("/etc/apple")]
    assert outermost(listed) == (Path("/etc/app"), Path("/etc/apple"))


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name and b"/" not in name))
def test_any_path_survives_the_manifest(name: bytes) -> None:
    """Every file name, UTF-8 or not, goes through JSON's UTF-8 and back."""
    path = Path(os.fsdecode(b"/" + name))
    spelled = proof_path(path).encode().decode()
    assert path_of(spelled) == path
