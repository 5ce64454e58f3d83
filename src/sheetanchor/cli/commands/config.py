"""`sheetanchor config`: check the configuration, describe it to editors."""

from __future__ import annotations

from sheetanchor.cli.help import Command
from sheetanchor.cli.help import group as new_group
from sheetanchor.cli.options import Context, Json, examples

EPILOG = examples(
    "sheetanchor config check",
    "sheetanchor config schema > sheetanchor.schema.json",
)
group = new_group("Check the configuration, describe it to editors.", EPILOG)


@group.command(
    "check",
    cls=Command,
    epilog=examples(
        "sheetanchor config check", "sheetanchor --config /etc/sheetanchor/sheetanchor.yml config check"
    ),
)
def check(context: Context, as_json: Json = False) -> None:
    """Read the configuration and say what is in it; connects to nothing."""
    output = context.obj.output
    with context.obj.application() as application:
        path, config = application.loaded.path, application.config
    components = [{"name": one.name, "type": one.type} for one in config.components]
    if output.as_json:
        output.summary({"path": str(path), "stack": config.stack.name, "components": components})
        return
    output.line(f"{path}: stack {config.stack.name}, repository {config.repository.url}")
    output.lines(f"  {one['name']} ({one['type']})" for one in components)


@group.command("schema", cls=Command, epilog=examples("sheetanchor config schema > sheetanchor.schema.json"))
def schema(context: Context, as_json: Json = False) -> None:
    """Print the JSON Schema of the configuration, for completion and checks in editors."""
    import json

    from sheetanchor.config.schema import json_schema

    output = context.obj.output
    if output.as_json:
        output.message(json_schema())
    else:
        output.line(json.dumps(json_schema(), indent=2))
