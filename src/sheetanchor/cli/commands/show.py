"""`sheetanchor show`: one backup in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sheetanchor.cli.options import BackupName, Context, Json, examples

if TYPE_CHECKING:
    from sheetanchor.operations.manifest import Manifest, ManifestComponent

EPILOG = examples(
    "sheetanchor show latest", "sheetanchor show backup_20261122_020000 --json | jq .components"
)


def command(context: Context, name: BackupName, as_json: Json = False) -> None:
    """Show what a backup holds, and what a restore of it has to equal."""
    from sheetanchor.cli.invocation import result_fields

    output = context.obj.output
    with context.obj.application() as application:
        manifest = application.show(name)
    if output.as_json:
        output.summary(result_fields(manifest))
    else:
        output.lines(_report(manifest))


def _report(manifest: Manifest) -> list[str]:
    from sheetanchor.cli import words

    spent = (manifest.finished_at - manifest.started_at).total_seconds()
    lines = [
        f"{manifest.backup} of stack {manifest.stack}: {manifest.status}",
        f"  taken     {words.moment(manifest.started_at)}, in {words.duration(spent)}, by {manifest.program}",
        f"  tier      {manifest.tier}",
    ]
    if manifest.origin:
        lines.append(f"  origin    {words.printable(manifest.origin)}")
    if not manifest.proven:
        lines.append("  unproven: came from an archive that had no checksums of its own")
    for component in manifest.components:
        lines += ["", *_component(component)]
    return lines


def _component(component: ManifestComponent) -> list[str]:
    from sheetanchor.cli import words

    lines = [f"{component.name} ({component.type}): {component.status}"]
    if component.error:
        lines.append(f"  error     {words.printable(component.error)}")
    if component.proof_summary:
        lines.append(f"  holds     {words.printable(component.proof_summary)}")
    if component.snapshot:
        lines += [
            f"  size      {words.size(component.bytes_read)} read, {words.size(component.bytes_added)} added,"
            f" in {words.duration(component.duration_s)}",
            f"  snapshot  {component.snapshot[:8]} at {component.root}",
        ]
    return lines + [f"  warning   {words.printable(warning)}" for warning in component.warnings]
