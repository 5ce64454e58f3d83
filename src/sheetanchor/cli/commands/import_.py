"""`sheetanchor import`: a portable archive into the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sheetanchor.cli.options import Context, Json, examples

EPILOG = examples(
    "sheetanchor import /backups/backup_20261122_020000.tar.gz",
    "ENCRYPTION_KEY_FILE=/etc/key sheetanchor import /backups/backup_20261122_020000.tar.gz.enc",
    "sheetanchor import s3://bucket/prefix/backup_20261122_020000.tar.gz",
    "sheetanchor import --trust-archive /old/backup_20240101_020000.tar.gz",
)


def command(
    context: Context,
    archive: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A folder, .tar.gz, .tar.gz.enc, or s3://….", show_default=False),
    ],
    trust_archive: Annotated[
        bool,
        typer.Option("--trust-archive", help="Take also an archive that has no checksums; marked unproven."),
    ] = False,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", metavar="F", help="The key; else ENCRYPTION_KEY_FILE, ENCRYPTION_KEY."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take a portable archive into the repository, where it is a backup like any other.

    Prints the backup's name. The archive is proven whole before anything of it is read, and what
    it holds is loaded in a sandbox and compared with its own manifest.
    """
    from sheetanchor.cli.archives import encryption_key, report_import

    output = context.obj.output
    key = encryption_key(key_file, output)
    with context.obj.application() as application:
        summary = application.import_archive(archive, key=key, trust=trust_archive)
    report_import(output, summary)
