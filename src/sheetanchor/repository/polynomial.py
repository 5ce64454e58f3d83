"""The chunker polynomial: readers refuse a repository whose polynomial is reducible.

Polynomials over GF(2) as integers, bit n for x^n. Our chunks are not cut with it, restic's are
(restic's design, "Backups and Deduplication"; Ben-Or's irreducibility test).
"""

from __future__ import annotations

import os
from collections.abc import Callable

DEGREE = 53


def generate(random_bytes: Callable[[int], bytes] = os.urandom) -> int:
    """Return a random irreducible polynomial of degree 53."""
    while True:
        candidate = int.from_bytes(random_bytes(8), "big") & ((1 << DEGREE) - 1)
        candidate |= 1 << DEGREE | 1
        if is_irreducible(candidate):
            return candidate


def is_irreducible(polynomial: int) -> bool:
    """Say whether a polynomial has no factors but itself; constants do not count."""
    degree = polynomial.bit_length() - 1
    if degree < 1:
        return False
    power = 2
    for _ in range(degree // 2):
        power = _multiply(power, power, polynomial)
        if _common_divisor(polynomial, power ^ 2) != 1:
            return False
    return True


def _multiply(left: int, right: int, modulus: int) -> int:
    product = 0
    while right:
        if right & 1:
            product ^= left
        left <<= 1
        right >>= 1
    return _remainder(product, modulus)


def _remainder(value: int, modulus: int) -> int:
    length = modulus.bit_length()
    while value.bit_length() >= length:
        value ^= modulus << (value.bit_length() - length)
    return value


def _common_divisor(left: int, right: int) -> int:
    while right:
        left, right = right, _remainder(left, right)
    return left
