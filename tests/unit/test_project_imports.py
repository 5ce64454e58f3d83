"""Who may import whom, as allow-lists; `.importlinter` holds the layers and prohibitions beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
GROUND = ("errors", "clock", "secret", "events", "process", "patterns")
ALLOWED = {
    "operations": (
        "operations",
        "components.base",
        "stacks.base",
        "repository.repository",
        "repository.snapshot",
        "repository.ids",
        "repository.node",
        "repository.model",
        "archive",
        "policy",
        "config.models",
        *GROUND,
    ),
    "archive": ("archive", "components.base", *GROUND),
    "repository": ("repository", *GROUND),
    "policy": ("policy", *GROUND),
}
COMPONENTS = ("configs", "postgres", "redis", "volume")
STANDARD_LIBRARY_ONLY = ("errors", "clock", "secret", "events", "process")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Every import in the package, those inside functions too."""
    return grimp.build_graph("sheetanchor", include_external_packages=True, cache_dir=None)


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(
        module == f"sheetanchor.{name}" or module.startswith(f"sheetanchor.{name}.") for name in packages
    )


def _imports_outside(graph: grimp.ImportGraph, part: str, allowed: tuple[str, ...]) -> list[str]:
    """Return "importer -> imported" for our own modules that `part` must not import."""
    return sorted(
        f"{importer} -> {imported}"
        for importer in graph.modules
        if _within(importer, (part,))
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported.startswith("sheetanchor.") and not _within(imported, allowed)
    )


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_a_part_imports_only_what_it_may(graph: grimp.ImportGraph, part: str) -> None:
    """The seams hold: a part reaches another only through the modules named for it."""
    assert _imports_outside(graph, part, ALLOWED[part]) == []


def test_components_import_only_what_all_share_and_themselves(graph: grimp.ImportGraph) -> None:
    """No component knows another one: what they share has a module of its own, or lies below."""
    parts = {name.split(".")[2] for name in graph.modules if name.startswith("sheetanchor.components.")}
    assert set(COMPONENTS) < parts
    shared = tuple(f"components.{name}" for name in parts - set(COMPONENTS))
    for part in sorted(parts):
        own = (f"components.{part}", *shared, "config.models", *GROUND)
        assert _imports_outside(graph, f"components.{part}", own) == []


@pytest.mark.parametrize("module", STANDARD_LIBRARY_ONLY)
def test_the_ground_needs_the_standard_library_only(graph: grimp.ImportGraph, module: str) -> None:
    """Small clients that start in milliseconds may import these modules."""
    imported = graph.find_modules_directly_imported_by(f"sheetanchor.{module}")
    foreign = {name for name in imported if not name.startswith("sheetanchor.")}
    assert foreign <= sys.stdlib_module_names
    assert _imports_outside(graph, module, GROUND) == []


def test_an_import_across_a_seam_is_seen(graph: grimp.ImportGraph) -> None:
    """The rule can fail: a component that reaches into the repository is reported."""
    graph.add_import(importer="sheetanchor.components.base", imported="sheetanchor.repository.ids")
    try:
        found = _imports_outside(graph, "components.base", ("components.base", *GROUND))
    finally:
        graph.remove_import(importer="sheetanchor.components.base", imported="sheetanchor.repository.ids")
    assert found == ["sheetanchor.components.base -> sheetanchor.repository.ids"]
