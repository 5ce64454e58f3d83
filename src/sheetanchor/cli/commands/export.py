"""`sheetanchor export`: a backup as portable files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sheetanchor.cli.options import BackupName, Context, Json, examples, separated

EPILOG = examples(
    "sheetanchor export latest --directory /backups",
    "ENCRYPTION_KEY_FILE=/etc/key sheetanchor export latest --directory /backups",
    "sheetanchor export latest --form folder,tar --directory /backups",
    "sheetanchor export latest --upload s3://bucket/prefix",
)


def command(
    context: Context,
    name: BackupName,
    directory: Annotated[
        Path | None,
        typer.Option("--directory", "-d", metavar="DIR", help="Where to; the working directory otherwise."),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option("--form", metavar="F,…", help="folder, tar, enc; by default enc with a key, else tar."),
    ] = None,
    upload: Annotated[
        str | None, typer.Option("--upload", metavar="URL", help="Also put it there (s3://bucket/prefix).")
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", metavar="F", help="The key; else ENCRYPTION_KEY_FILE, ENCRYPTION_KEY."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a backup as files that stock tools can restore: psql, redis-server, tar, openssl."""
    from sheetanchor.cli.archives import chosen_forms, encryption_key, report_export

    output = context.obj.output
    key = encryption_key(key_file, output)
    forms = chosen_forms(separated(form), key)
    with context.obj.application() as application:
        summary = application.export(name, directory or Path.cwd(), forms=forms, key=key, upload=upload)
    report_export(output, summary)
