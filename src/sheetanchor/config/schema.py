"""The configuration's JSON Schema, so that editors can complete and check `sheetanchor.yml`."""

from __future__ import annotations

from typing import Any

from sheetanchor.config.models import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema 2020-12) of the whole file."""
    schema = Config.model_json_schema()
    return {"$schema": DIALECT, **schema, "title": "Configuration of Sheetanchor (sheetanchor.yml)"}
