"""What a restored server must hold, and the comparison with what it does hold."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from sheetanchor.components.base import Proof
from sheetanchor.components.redis.digest import Contents, Sum, span_start
from sheetanchor.errors import ProofMismatchError


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseCount(_Record):
    """Keys of one numbered database."""

    index: int
    keys: int
    expiring: int
    """Those of them with an expiry."""


class TypeCount(_Record):
    """Keys of one type."""

    name: str
    keys: int


class ItemSum(_Record):
    """A number of items and the sum of their hashes, modulo 2^256, as 64 hex digits."""

    count: int
    digest: str

    @classmethod
    def of(cls, value: Sum) -> ItemSum:
        """Make it from what `digest.contents` found."""
        return cls(count=value.count, digest=value.digest)


class SpanSum(ItemSum):
    """Items that expire within one span of time after the reference (`digest.span_start`)."""

    span: int


class RedisProof(Proof):
    """What the RDB file holds, as a scratch server that loaded it answered."""

    product: str
    version: str
    rdb_bytes: int
    rdb_sha256: str
    memory_bytes: int
    """What the data takes in the server's memory."""
    databases: tuple[DatabaseCount, ...]
    types: tuple[TypeCount, ...]
    functions: ItemSum
    lasting: ItemSum
    """Keys without expiry."""
    reference_ms: int
    """Unix time (ms) at which the spans begin."""
    expiring: tuple[SpanSum, ...]
    """Keys and hash fields with expiry; those about to expire at the capture are left out."""

    @property
    def keys(self) -> int:
        """All keys of all databases."""
        return sum(each.keys for each in self.databases)

    def content(self) -> dict[str, Any]:
        """Return what is equal for any two captures of the same data: what does not expire."""
        return {
            "lasting": self.lasting.model_dump(mode="json"),
            "functions": self.functions.model_dump(mode="json"),
            "databases": {str(each.index): each.keys - each.expiring for each in self.databases},
        }

    @property
    def empty(self) -> bool:
        """Whether there is no key."""
        return self.keys == 0

    def summary(self) -> str:
        """Return a short phrase for people."""
        with_expiry = sum(each.expiring for each in self.databases)
        databases = len(self.databases)
        keys = f"{self.keys:,} key{'' if self.keys == 1 else 's'}"
        phrase = f"{keys} in {databases} database{'' if databases == 1 else 's'}"
        return phrase + (f", {with_expiry:,} with an expiry" if with_expiry else "")


def make_proof(
    found: Contents, *, product: str, version: str, rdb_bytes: int, rdb_sha256: str, memory_bytes: int
) -> RedisProof:
    """Turn the contents of a scratch server into the proof of the file that it loaded."""
    safe = [
        (span, total) for span, total in found.expiring if _begins(found.reference_ms, span) > found.ended_ms
    ]
    return RedisProof(
        product=product,
        version=version,
        rdb_bytes=rdb_bytes,
        rdb_sha256=rdb_sha256,
        memory_bytes=memory_bytes,
        databases=tuple(
            DatabaseCount(index=index, keys=keys, expiring=expiring) for index, keys, expiring in found.keys
        ),
        types=tuple(TypeCount(name=name, keys=keys) for name, keys in found.types),
        functions=ItemSum.of(found.functions),
        lasting=ItemSum.of(found.lasting),
        reference_ms=found.reference_ms,
        expiring=tuple(SpanSum(span=span, count=total.count, digest=total.digest) for span, total in safe),
    )


def compare(proof: RedisProof, found: Contents, *, keeps_expired: bool) -> tuple[str, ...]:
    """Compare what a server holds with the proof; return what was compared, one phrase each.

    `keeps_expired`: the server is a scratch server, which still counts keys whose time has
    come, so that its key counts must be equal too. `found` must have been read with the
    proof's `reference_ms`. Raises ProofMismatchError naming the first differences.
    """
    differences = _count_differences(proof, found) if keeps_expired else []
    if ItemSum.of(found.lasting) != proof.lasting:
        differences.append(_difference("keys without expiry", proof.lasting, found.lasting))
    if ItemSum.of(found.functions) != proof.functions:
        differences.append(_difference("function libraries", proof.functions, found.functions))
    compared, expired, passing, wrong = _compare_spans(proof, found)
    differences += wrong
    if differences:
        raise ProofMismatchError("; ".join(differences[:3]))
    phrases = [f"{proof.lasting.count:,} keys without expiry equal by type and value"]
    if compared:
        phrases.append(f"{compared:,} keys and hash fields with expiry equal by value and time")
    if expired:
        phrases.append(f"{expired:,} keys and hash fields have expired since the backup")
    if passing:
        phrases.append(f"{passing:,} that expire about now were counted only")
    if proof.functions.count:
        phrases.append(f"{proof.functions.count:,} function libraries equal")
    return tuple(phrases)


def _compare_spans(proof: RedisProof, found: Contents) -> tuple[int, int, int, list[str]]:
    """Return the items equal, expired, and expiring about now, and the differences."""
    actual = {span: ItemSum.of(total) for span, total in found.expiring}
    expected = {each.span: ItemSum(count=each.count, digest=each.digest) for each in proof.expiring}
    first = min(expected, default=0)
    compared = expired = passing = 0
    wrong: list[str] = []
    nothing = ItemSum(count=0, digest=f"{0:064x}")
    for span in sorted(expected.keys() | {span for span in actual if span >= first}):
        wanted, seen = expected.get(span, nothing), actual.get(span, nothing)
        starts, ends = _begins(proof.reference_ms, span), _begins(proof.reference_ms, span + 1)
        if starts > found.ended_ms:
            compared += wanted.count
            if seen != wanted:
                wrong.append(_difference(f"keys that expire from {starts} (Unix ms)", wanted, seen))
        elif ends <= found.started_ms:
            expired += wanted.count
        else:
            passing += seen.count
            expired += max(wanted.count - seen.count, 0)
            if seen.count > wanted.count:
                wrong.append(_difference(f"keys that expire from {starts} (Unix ms)", wanted, seen))
    return compared, expired, passing, wrong


def _count_differences(proof: RedisProof, found: Contents) -> list[str]:
    wanted = {each.index: (each.keys, each.expiring) for each in proof.databases}
    seen = {index: (keys, expiring) for index, keys, expiring in found.keys}
    return [
        f"database {index}: {_counts(seen.get(index))} instead of {_counts(wanted.get(index))}"
        for index in sorted(wanted.keys() | seen.keys())
        if wanted.get(index) != seen.get(index)
    ]


def _counts(counts: tuple[int, int] | None) -> str:
    keys, expiring = counts or (0, 0)
    return f"{keys:,} keys ({expiring:,} with an expiry)"


def _difference(what: str, wanted: ItemSum, found: Sum | ItemSum) -> str:
    if wanted.count != found.count:
        return f"{what}: {found.count:,} instead of {wanted.count:,}"
    return f"{what}: {found.count:,} as expected, but their values or times differ"


def _begins(reference_ms: int, span: int) -> int:
    return reference_ms + span_start(span)
