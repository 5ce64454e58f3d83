"""The manifest: written last, it commits a backup and says what a restore must equal."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sheetanchor.errors import DamagedRepositoryError

MANIFEST_PATH = "manifest.json"
FORMAT = 1


class ManifestComponent(BaseModel):
    """One component's entry."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    status: Literal["saved", "failed", "absent"]
    root: str
    """Where the component's files begin inside its snapshot."""
    snapshot: str | None = None
    tree: str | None = None
    """Hex id of the snapshot's root tree: binds every byte and attribute to this manifest."""
    bytes_read: int = 0
    bytes_added: int = 0
    duration_s: float = 0.0
    proof: dict[str, Any] | None = None
    proof_summary: str = ""
    warnings: tuple[str, ...] = ()
    error: str | None = None


class Manifest(BaseModel):
    """The whole of one backup."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    program: str
    stack: str
    backup: str
    tier: str
    status: Literal["complete", "partial"]
    started_at: datetime
    finished_at: datetime
    components: tuple[ManifestComponent, ...]
    proven: bool = True
    """False for an archive that had no manifest, checksums or HMAC of its own."""
    origin: str | None = None
    """Where an imported backup came from; the restore token of a safety backup."""

    def component(self, name: str) -> ManifestComponent | None:
        """Return the entry of a component, or None."""
        return next((entry for entry in self.components if entry.name == name), None)

    def saved(self) -> tuple[ManifestComponent, ...]:
        """Return the components that this backup holds."""
        return tuple(entry for entry in self.components if entry.status == "saved")

    def encode(self) -> bytes:
        """Return the manifest as indented JSON with a newline: people read it with `restic dump`."""
        return self.model_dump_json(indent=2).encode() + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest. Raises DamagedRepositoryError for anything that is none."""
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise DamagedRepositoryError(f"the manifest cannot be read: {error.errors()[0]['msg']}") from error
    if manifest.format > FORMAT:
        raise DamagedRepositoryError(
            f"the manifest is of format {manifest.format}, this program knows {FORMAT}",
            hint="use the version of sheetanchor that wrote the backup, or a newer one",
        )
    return manifest
