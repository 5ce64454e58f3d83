"""The key derivation of key files: scrypt with calibrated, and with distrusted, parameters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sheetanchor.clock import Clock
from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.secret import Secret

KEY_SIZE = 64
SALT_SIZE = 64
_MAX_MEMORY = 256 << 20
"""Bytes that opening a key may take; restic's own keys take at most 60 MiB."""
_MAX_WORK = 1 << 24
"""Limit of N * r * p: about ten seconds."""
_TARGET_SECONDS = 0.5
_MAX_PARALLEL = 16


@dataclass(frozen=True)
class ScryptParameters:
    """scrypt's cost: memory is about 128 * n * r bytes, time goes with n * r * p."""

    n: int = 32768
    r: int = 8
    p: int = 1

    def check(self) -> None:
        """Raise DamagedRepositoryError for parameters that are wrong, or made to hurt."""
        power_of_two = self.n > 1 and self.n & (self.n - 1) == 0
        # RFC 7914 asks for N < 2 ** (16 * r), which the library refuses in a way of its own.
        if not power_of_two or self.r < 1 or self.p < 1 or self.n.bit_length() > 16 * self.r:
            raise DamagedRepositoryError(f"impossible scrypt parameters N={self.n} r={self.r} p={self.p}")
        if 128 * self.r * (self.n + self.p) > _MAX_MEMORY or self.n * self.r * self.p > _MAX_WORK:
            raise DamagedRepositoryError(
                f"scrypt parameters N={self.n} r={self.r} p={self.p} are over the limit",
                hint="the key file may be forged to exhaust this machine",
            )


def derive(password: Secret, salt: bytes, parameters: ScryptParameters) -> bytes:
    """Return 64 bytes of key material. Raises DamagedRepositoryError for bad parameters."""
    parameters.check()
    memory = 128 * parameters.r * (parameters.n + parameters.p + 2) + (1 << 20)
    return hashlib.scrypt(
        password.reveal().encode("utf-8", "surrogateescape"),
        salt=salt,
        n=parameters.n,
        r=parameters.r,
        p=parameters.p,
        maxmem=memory,
        dklen=KEY_SIZE,
    )


def calibrate(clock: Clock) -> ScryptParameters:
    """Return parameters that take this machine about half a second and 32 MiB."""
    base = ScryptParameters()
    start = clock.monotonic()
    derive(Secret("calibration"), bytes(SALT_SIZE), base)
    seconds = max(clock.monotonic() - start, 1e-3)
    return ScryptParameters(p=min(max(round(_TARGET_SECONDS / seconds), 1), _MAX_PARALLEL))
