"""`import`: takes an archive from a path or an s3:// address into the repository."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sheetanchor.archive.remote import download, is_address
from sheetanchor.operations import import_archive
from sheetanchor.operations.catalog import Catalog
from sheetanchor.operations.environment import Environment
from sheetanchor.operations.results import ImportSummary
from sheetanchor.secret import Secret

ARCHIVE_SUFFIXES = (".tar.gz", ".tar.gz.enc")


@dataclass(frozen=True)
class FetchRequest:
    """Which archive, and how far it is trusted."""

    place: str
    key: Secret | None
    trust: bool
    work_directory: Path
    environment: Mapping[str, str]
    """Where AWS_* variables are."""


def execute(environment: Environment, catalog: Catalog, request: FetchRequest) -> ImportSummary:
    """Import the archive; a downloaded one is removed once it is in the repository."""
    if not is_address(request.place):
        asked = import_archive.ImportRequest(Path(request.place), request.key, request.trust)
        return import_archive.execute(environment, catalog, asked)
    with tempfile.TemporaryDirectory(dir=request.work_directory, prefix="sheetanchor-download-") as work:
        path = download(request.place, Path(work), request.environment, environment.listener)
        asked = import_archive.ImportRequest(path, request.key, request.trust)
        return import_archive.execute(environment, catalog, asked)


def names_an_archive(name: str) -> bool:
    """Say whether what a restore was asked for is an archive rather than a backup's name."""
    return is_address(name) or "/" in name or name.endswith(ARCHIVE_SUFFIXES)
