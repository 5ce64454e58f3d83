"""Laws of the digest: spans of time, and packing of parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sheetanchor.components.redis.digest import span_of, span_start
from sheetanchor.components.redis.values import packed, sum_of

DISTANCES = st.integers(0, 1 << 62)


@given(DISTANCES)
def test_every_distance_lies_in_its_span(distance: int) -> None:
    """A span begins at or before what is counted in it, and the next one begins after that."""
    span = span_of(distance)
    assert span_start(span) <= distance < span_start(span + 1)


@given(st.integers(1, 1000))
def test_spans_are_narrow(span: int) -> None:
    """No span is wider than a thirty-second part of its distance: little is compared by count only."""
    width = span_start(span + 1) - span_start(span)
    assert width * 32 <= span_start(span)


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_packing_is_injective(one: list[bytes], other: list[bytes]) -> None:
    """Two sequences that differ in any way never pack to the same bytes."""
    assert (packed(one) == packed(other)) == (one == other)


@given(st.lists(st.binary(min_size=32, max_size=32)), st.randoms(use_true_random=False))
def test_sum_does_not_depend_on_order(hashes: list[bytes], dice: object) -> None:
    """What a server returns in another order sums up alike."""
    shuffled = list(hashes)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sum_of(hashes) == sum_of(shuffled) < 1 << 256
