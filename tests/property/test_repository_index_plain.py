"""The fast way to read an index file: never another answer than the thorough one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index import Index
from sheetanchor.repository.index_file import decode_any, decode_plain, encode_index
from sheetanchor.repository.pack import PackedBlob

NUMBERS = st.integers(32, 1 << 30)
BLOBS = st.builds(
    PackedBlob,
    st.sampled_from(BlobType),
    st.binary(min_size=32, max_size=32).map(Id),
    st.integers(0, 1 << 24),
    NUMBERS,
    st.just(0) | NUMBERS,
)
PACKS = st.lists(
    st.tuples(st.binary(min_size=32, max_size=32).map(Id), st.lists(BLOBS, min_size=1, max_size=4)),
    min_size=1,
    max_size=3,
)


@given(PACKS)
def test_what_we_write_is_read_the_fast_way(packs: list[tuple[Id, list[PackedBlob]]]) -> None:
    """Our own index files take the fast way, and both ways agree."""
    data = encode_index(packs)
    assert decode_plain(data) == decode_any(data) == packs


@given(PACKS, st.data())
def test_a_changed_index_is_never_read_differently(
    packs: list[tuple[Id, list[PackedBlob]]], data: st.DataObject
) -> None:
    """After any cut, insertion or replacement the fast way agrees with the thorough one, or stands back."""
    text = encode_index(packs)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 90)))
    pieces = st.sampled_from(
        [b"", b"0", b"9", b"-", b" ", b",", b"a", b'"', b"}", b"]", b"{}", text[start:end] * 2]
    )
    changed = text[:start] + data.draw(pieces) + text[end:]
    fast = decode_plain(changed)
    if fast is None:
        return
    try:
        thorough = decode_any(changed)
    except DamagedRepositoryError:
        raise AssertionError(changed) from None
    assert fast == thorough


@given(st.lists(BLOBS, min_size=1, max_size=40), st.integers(1, 7))
def test_lookups_between_adds_find_everything(blobs: list[PackedBlob], step: int) -> None:
    """Entries get their slots late, whenever somebody looks: all that was added until then is found."""
    index = Index()
    for number in range(0, len(blobs), step):
        part = blobs[number : number + step]
        pack_id = Id(number.to_bytes(32, "big"))
        index.add_pack(pack_id, part)
        for blob in blobs[: number + step]:
            assert index.has(blob.type, blob.id)
        assert not index.has(BlobType.DATA, Id(b"\xff" * 31 + bytes((number % 256,))))
    first = blobs[0]
    found = index.lookup(first.type, first.id)
    assert found is not None
    assert found.pack_id == Id(bytes(32))
