"""Names and tags: what is written is read back, what is foreign is left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheetanchor.operations.naming import Tags, backup_name, backup_time, component_root, read_tags

WORDS = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789_-.", min_size=1, max_size=20)


@given(
    st.builds(
        Tags,
        stack=WORDS,
        backup=WORDS,
        tier=WORDS,
        component=st.none() | WORDS,
        type=st.none() | WORDS,
        status=st.none() | st.just("failed"),
        manifest=st.none() | st.sampled_from(["complete", "partial"]),
        others=st.lists(WORDS, max_size=3).map(tuple),
    )
)
def test_tags_are_read_back_as_written(tags: Tags) -> None:
    """Any tags survive the way through a snapshot, the user's own among them."""
    assert read_tags(tags.encode()) == tags


def test_snapshots_of_others_are_not_ours() -> None:
    """A repository shared with restic keeps its other snapshots out of our listing."""
    assert read_tags(["nightly", "stack=a"]) is None


def test_names_are_utc_whatever_the_zone() -> None:
    """02:00 in a zone east of Greenwich is named by its UTC time."""
    moment = datetime(2024, 1, 1, 2, 0, 0, tzinfo=timezone(timedelta(hours=2)))
    assert backup_name(moment) == "backup_20240101_000000"
    assert backup_time("backup_20240101_000000") == datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", ["backup_2024", "backup_20241301_000000", "other", "latest", ""])
def test_other_names_have_no_time(name: str) -> None:
    """A name that is no moment, or no such moment, is told apart."""
    assert backup_time(name) is None


def test_layout_inside_the_repository_is_the_public_one() -> None:
    """docs/without-sheetanchor.md tells people these paths."""
    roots = {kind: component_root(kind, "x") for kind in ("postgres", "redis", "volume", "configs", "bucket")}
    assert roots == {
        "postgres": "/postgres/x",
        "redis": "/redis/x",
        "volume": "/volumes/x",
        "configs": "/configs",
        "bucket": "/buckets/x",
    }
