"""Volumes and configuration files through the real repository instead of a plain directory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sheetanchor.components.base import Proof, proof_from_json
from sheetanchor.errors import NoSpaceError, ProofMismatchError
from sheetanchor.operations.naming import component_root
from sheetanchor.operations.store import RepositorySink, RepositorySource
from sheetanchor.repository.repository import Repository
from support.component_cases import CaseFactory, ComponentCase
from support.configs_cases import configs_case
from support.repositories import create
from support.volume_cases import VolumeCase, mounted, mounted_volume_case, volume_case

CASES: dict[str, CaseFactory] = {
    "volume": volume_case,
    "mounted volume": mounted_volume_case,
    "configs": configs_case,
}
TOKEN = "20240102T030405"


@dataclass
class Saved:
    """A case whose first state is in a repository, and that has changed since."""

    case: ComponentCase
    source: RepositorySource
    proof: Proof
    before: object
    changed: object


def _save(case: ComponentCase, repository: Repository) -> tuple[RepositorySource, Proof]:
    component = case.component()
    root = component_root(component.kind, component.name)
    with repository.writer() as session:
        writer = session.tree(root)
        captured = component.capture(RepositorySink(writer, None))
        tree = writer.finish()
        session.flush()
    proof = proof_from_json(component.proof_model, captured.model_dump(mode="json"))
    return RepositorySource(repository.reader(), tree, root), proof


@pytest.fixture(params=CASES)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Saved]:
    """Capture into a repository, then change the live files."""
    with CASES[request.param](tmp_path) as case:
        before = case.describe()
        source, proof = _save(case, create(tmp_path / "repository"))
        case.change()
        yield Saved(case, source, proof, before, case.describe())


def test_restore_from_a_repository_is_equal(saved: Saved) -> None:
    """Every name, attribute and byte goes into packs and comes back, and undo works."""
    staged = saved.case.component().stage(saved.source, saved.proof, TOKEN)
    assert staged.verify(saved.proof)
    staged.swap()
    assert saved.case.describe() == saved.before
    assert staged.verify(saved.proof), "what is live can be compared as well"
    staged.undo()
    assert saved.case.describe() == saved.changed
    staged.swap()
    staged.discard()
    assert saved.case.describe() == saved.before
    assert saved.case.leftovers() == []


def test_a_byte_changed_after_staging_is_found(saved: Saved) -> None:
    """The staged files are read back against the repository's own hashes."""
    staged = saved.case.component().stage(saved.source, saved.proof, TOKEN)
    saved.case.tamper(TOKEN)
    with pytest.raises(ProofMismatchError):
        staged.verify(saved.proof)


def test_selected_files_from_a_repository(tmp_path: Path) -> None:
    """`include` brings back what matches, names that are not UTF-8 included, and nothing else."""
    with volume_case(tmp_path) as case:
        assert isinstance(case, VolumeCase)
        source, proof = _save(case, create(tmp_path / "repository"))
        odd = next(path for path in case.live.iterdir() if path.name.startswith("na"))
        case.change()
        odd.unlink()
        include = ["*.jpg", "na?ve\nname"]
        staged = case.component().stage(source, proof, TOKEN, include=include)
        assert "3 selected entries" in staged.verify(proof)[0]
        staged.swap()
        staged.discard()
        assert odd.read_bytes() == b"not UTF-8"
        assert (case.live / "photos" / "2024" / "b.jpg").stat().st_size == 100
        assert (case.live / "readme.txt").read_text() == "two\n"


def test_full_disk_while_staging_is_named_and_cleared_away(tmp_path: Path) -> None:
    """A stage that fills the disk ends in one clear line; discard gives the room back."""
    live = tmp_path / "srv" / "uploads"
    live.mkdir(parents=True)
    with mounted(["-t", "tmpfs", "-o", "size=2m", "tmpfs", str(live)], live):
        case = VolumeCase(tmp_path, live)
        (live / "readme.txt").write_bytes(bytes(range(256)) * 4000)
        source, proof = _save(case, create(tmp_path / "repository"))
        (live / "filler").write_bytes(b"x" * 700_000)
        before = case.describe()
        with pytest.raises(NoSpaceError) as full:
            case.component().stage(source, proof, TOKEN)
        assert full.value.hint
        case.component().resume(TOKEN).discard()
        assert case.describe() == before
        assert case.leftovers() == []
