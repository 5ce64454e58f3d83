"""The JSON Schema for editors says what the models say; the sample is a configuration that loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sheetanchor.config.load import load_config
from sheetanchor.config.sample import SampleComponent, render
from sheetanchor.config.schema import json_schema
from sheetanchor.errors import ConfigError


def test_the_schema_describes_every_option() -> None:
    """An editor shows a sentence for every key that people may wonder about."""
    definitions = json_schema()["$defs"]
    lacking = {
        f"{model}.{key}"
        for model, schema in definitions.items()
        for key, field in schema["properties"].items()
        if "description" not in field and key not in {"type", "driver", "username"}
    }
    assert {name for name in lacking if not name.endswith((".name", ".tls_key_file"))} <= {
        "PostgresConfig.password_file",
        "RedisConfig.password_file",
    }
    assert all(schema["additionalProperties"] is False for schema in definitions.values())


def test_a_sample_loads_and_keeps_what_was_found(tmp_path: Path) -> None:
    """What `init` writes is valid as it stands, its commented examples too."""
    components = [
        SampleComponent(
            "db", "postgres", (("url", "postgresql://p@/postgres?host=%2Frun"),), ("PostgreSQL 15",)
        ),
        SampleComponent("files", "configs", (("paths", ("/srv/a: b.yml", "/srv/yes")),)),
    ]
    text = render("shop", "/backups/repository", Path("/etc/x/password"), components)
    path = tmp_path / "sheetanchor.yml"
    path.write_text(text)
    config = load_config(path).config
    assert [component.name for component in config.components] == ["db", "files"]
    assert "# PostgreSQL 15" in text

    commented = text.split("# More that a component can have:\n")[1]
    examples = "\n".join(line.removeprefix("#")[1:] for line in commented.splitlines())
    path.write_text(text.split("components:")[0] + "components:\n" + examples + "\n")
    assert [component.type for component in load_config(path).config.components] == [
        "postgres",
        "redis",
        "volume",
        "configs",
    ]


def test_a_sample_of_nothing_says_so(tmp_path: Path) -> None:
    """An empty discovery leaves a file to fill in, which is refused until it is."""
    path = tmp_path / "sheetanchor.yml"
    path.write_text(render("shop", "/r", Path("/p"), []))
    with pytest.raises(ConfigError, match="components: must not be empty"):
        load_config(path)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1))
def test_any_text_survives_the_sample(text: str) -> None:
    """Whatever a path or a name holds, YAML reads back what was found."""
    sample = render("s", text, Path("/p"), [SampleComponent("a", "configs", (("paths", (text,)),))])
    values = yaml.safe_load(sample)
    assert values["repository"]["url"] == text
    assert values["components"][0]["paths"] == [text]
