"""`sheetanchor repository rekey`: everything copied to a repository with a new master key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sheetanchor.cli.commands.key import NewPasswordFile, new_password
from sheetanchor.cli.options import Context, Json, examples

EPILOG = examples(
    "sheetanchor repository rekey --to /backups/new --new-password-file /root/new-password",
    "sheetanchor repository rekey --to s3:https://s3.example.com/bucket/new",
)


def rekey(
    context: Context,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="URL", help="The new repository; made if there is none.", show_default=False
        ),
    ],
    new_password_file: NewPasswordFile = None,
    as_json: Json = False,
) -> None:
    """Copy everything to a new repository that no old password or copied key opens.

    For when somebody who must not may know the master key. Snapshots keep their times, tags and
    contents. Files stay cut into blocks as they were, so the first backup into the new repository
    stores long files once more. Passwords added with `key add` have to be added again. Run it a
    second time to copy what came in meanwhile; the old repository stays as it is.
    """
    output = context.obj.output
    password = new_password(output, new_password_file)
    with context.obj.application() as application:
        done = application.rekey(_place(to), password)
    if output.as_json:
        from sheetanchor.cli.invocation import result_fields

        output.summary(result_fields(done))
        return
    from sheetanchor.cli import words

    there = ", ".join(
        (
            words.count(done.snapshots, "snapshot"),
            words.count(done.data_blobs + done.tree_blobs, "blob"),
            words.count(done.objects, "sealed object"),
        )
    )
    what = "copied and counted" if done.status == "copied" else "all of it was there already"
    output.line(f"{done.repository}: {there}: {what}, in {words.duration(done.duration_s)}")
    output.note(
        "next: put the new address and password into sheetanchor.yml, then `sheetanchor verify --read-data`;"
    )
    output.note("then remove the old repository and every copy of it: the old key still opens those")


def _place(url: str) -> str:
    """Return a path made absolute from where the command was typed; any other URL as it is."""
    return url if ":" in url.partition("/")[0] else str(Path(url).absolute())
