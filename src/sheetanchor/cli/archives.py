"""What `export` and `import` share: the key, the forms, what they report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sheetanchor.cli import words
from sheetanchor.cli.invocation import result_fields
from sheetanchor.cli.output import Output
from sheetanchor.errors import ConfigError, UsageError
from sheetanchor.secret import Secret

if TYPE_CHECKING:
    from sheetanchor.archive.layout import ArchiveForms
    from sheetanchor.operations.results import ExportSummary, ImportSummary

KEY_VARIABLE = "ENCRYPTION_KEY"
KEY_FILE_VARIABLE = "ENCRYPTION_KEY_FILE"
FORMS = ("folder", "tar", "enc")


def encryption_key(key_file: Path | None, output: Output) -> Secret | None:
    """Return the archive's key: `--key-file`, ENCRYPTION_KEY_FILE, ENCRYPTION_KEY; None without.

    The first line of a file is the key, as `openssl -pass file:` reads it.
    """
    from sheetanchor.config.environment import read_password_file

    file = key_file or (Path(named) if (named := os.environ.get(KEY_FILE_VARIABLE)) else None)
    if file is not None:
        return read_password_file(file, warn=output.warning)
    if KEY_VARIABLE not in os.environ:
        return None
    if not os.environ[KEY_VARIABLE]:
        raise ConfigError(f"{KEY_VARIABLE} is set, but empty")
    return Secret(os.environ[KEY_VARIABLE])


def chosen_forms(names: tuple[str, ...], key: Secret | None) -> ArchiveForms:
    """Return the forms to write; by default what the key allows. Raises UsageError."""
    from sheetanchor.archive.layout import ArchiveForms

    names = names or (("enc",) if key is not None else ("tar",))
    for name in names:
        if name not in FORMS:
            raise UsageError(f"--form: {name!r} is no form", hint=f"there are: {', '.join(FORMS)}")
    if "enc" in names and key is None:
        raise UsageError(
            "an encrypted archive needs a key", hint=f"--key-file F, {KEY_FILE_VARIABLE} or {KEY_VARIABLE}"
        )
    return ArchiveForms(folder="folder" in names, tar="tar" in names, enc="enc" in names)


def report_export(output: Output, summary: ExportSummary) -> None:
    """Say what was written."""
    if output.as_json:
        output.summary(result_fields(summary))
        return
    output.lines(str(file) for file in summary.files)
    if summary.uploaded_to:
        output.line(f"uploaded to {summary.uploaded_to}")
    if summary.report:
        output.line(f"report: {summary.report}")
    output.line(
        f"{summary.backup}: exported in {words.duration(summary.duration_s)};"
        f" {words.size(summary.bytes_before)} became {words.size(summary.bytes_after)}"
    )


def report_import(output: Output, summary: ImportSummary) -> None:
    """Say what is in the repository now; the name stands alone on standard output, for scripts."""
    if output.as_json:
        output.summary(result_fields(summary))
        return
    if summary.status == "present":
        output.note("the repository holds this backup already; nothing was imported")
    for component in summary.components:
        output.note(f"{component.name} ({component.type}): {words.printable(component.proof_summary)}")
    if not summary.proven:
        output.warning("unproven: the archive had no checksums; restore it with --trust-archive")
    output.line(summary.backup)
