"""Key files: passwords open the one master key, hostile and damaged files do no harm."""

from __future__ import annotations

import json
import time

import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.errors import (
    DamagedRepositoryError,
    ObjectAbsentError,
    RepositoryError,
    RepositoryNotFoundError,
    WrongPasswordError,
)
from sheetanchor.repository.backend.base import CONFIG_NAME, Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.crypto import MasterKey
from sheetanchor.repository.ids import Id, digest
from sheetanchor.repository.keys import (
    MAX_TRIED,
    KeyOwner,
    add_key,
    change_password,
    list_keys,
    open_key,
    remove_key,
)
from sheetanchor.repository.scrypt import ScryptParameters, calibrate, derive
from sheetanchor.secret import Secret
from support.faulty import FaultyBackend

CHEAP = ScryptParameters(n=16, r=1, p=1)
OWNER = KeyOwner("operator", "node-1")
MASTER = MasterKey.generate()


def _add(backend: MemoryBackend, password: str, created_ns: int = 0) -> Id:
    return add_key(backend, MASTER, Secret(password), OWNER, created_ns, CHEAP)


def test_each_password_opens_the_same_master_key() -> None:
    """Two passwords, one key; a third opens nothing; none of them stands in the repository."""
    backend = MemoryBackend()
    first, second = _add(backend, "first password"), _add(backend, "zweites Paßwort", 1)
    for password, key_id in (("first password", first), ("zweites Paßwort", second)):
        opened = open_key(backend, Secret(password))
        assert (opened.id, opened.master_key) == (key_id, MASTER)
        assert password.encode() not in backend.get(Kind.KEYS, key_id.hex())
        assert MASTER.encrypt.hex() not in repr(opened)
    with pytest.raises(WrongPasswordError) as caught:
        open_key(backend, Secret("third password"))
    assert "third password" not in f"{caught.value.message}{caught.value.hint}"
    assert [key.id for key in list_keys(backend)] == [first, second]
    assert list_keys(backend)[0].file.username == "operator"


def test_the_hinted_key_is_tried_first() -> None:
    """With a hint one key file is read, however many there are."""
    backend = MemoryBackend()
    keys = [_add(backend, f"password {number}") for number in range(5)]
    counting = FaultyBackend(backend)
    assert open_key(counting, Secret("password 3"), hint=keys[3]).id == keys[3]
    assert counting.calls["get"] == 1
    assert open_key(backend, Secret("password 3"), hint=digest(b"gone")).id == keys[3]


def test_no_more_than_twenty_keys_are_tried() -> None:
    """A repository full of keys costs a bounded time; the hint says what to do."""
    backend = MemoryBackend()
    for number in range(MAX_TRIED + 5):
        _add(backend, f"password {number}")
    counting = FaultyBackend(backend)
    with pytest.raises(WrongPasswordError) as caught:
        open_key(counting, Secret("none of them"))
    assert counting.calls["get"] == MAX_TRIED
    assert f"{MAX_TRIED} of {MAX_TRIED + 5}" in str(caught.value.hint)


def test_removing_a_key_shuts_its_password_out() -> None:
    """The one in use is refused, an absent one too; another one goes."""
    backend = MemoryBackend()
    first, second = _add(backend, "first"), _add(backend, "second")
    with pytest.raises(RepositoryError, match="in use"):
        remove_key(backend, first, in_use=first)
    remove_key(backend, second, in_use=first)
    with pytest.raises(WrongPasswordError):
        open_key(backend, Secret("second"))
    with pytest.raises(ObjectAbsentError):
        remove_key(backend, second, in_use=first)


def test_a_changed_password_replaces_the_old_one() -> None:
    """The new password opens the same master key, the old one nothing."""
    backend = MemoryBackend()
    _add(backend, "old")
    opened = open_key(backend, Secret("old"))
    new = change_password(backend, opened, Secret("new"), OWNER, 5, CHEAP)
    assert open_key(backend, Secret("new")).id == new
    assert open_key(backend, Secret("new")).master_key == MASTER
    with pytest.raises(WrongPasswordError):
        open_key(backend, Secret("old"))


def test_a_damaged_key_file_does_not_shut_out_the_others() -> None:
    """Beside a good key damage does no harm; alone it is named as damage, not as a wrong password."""
    backend = MemoryBackend()
    bad, good = _add(backend, "bad"), _add(backend, "good")
    stored = backend.get(Kind.KEYS, bad.hex())
    for position in (0, len(stored) // 2, len(stored) - 3):
        flipped = bytearray(stored)
        flipped[position] ^= 1
        backend.put(Kind.KEYS, bad.hex(), flipped)
        assert open_key(backend, Secret("good")).id == good
        with pytest.raises(DamagedRepositoryError, match=bad.hex()):
            open_key(backend, Secret("bad"))


@pytest.mark.parametrize(
    ("n", "r", "p"),
    [
        *((1 << 30, 8, 1), (32768, 1 << 20, 1), (32768, 8, 1 << 30), (1 << 15, 8, 10_000)),
        *(
            (0, 8, 1),
            (1, 8, 1),
            (3, 8, 1),
            (32767, 8, 1),
            (16, 0, 1),
            (16, 8, -1),
            ("16", 8, 1),
            (True, 8, 1),
        ),
        *((2**70, 8, 1), (16.0, 8, 1), (None, 8, 1)),
    ],
)
def test_hostile_parameters_are_refused_before_scrypt_runs(n: object, r: object, p: object) -> None:
    """A forged key file can neither exhaust memory nor time, nor crash the program."""
    backend = MemoryBackend()
    fields = json.loads(_key_file(backend))
    fields |= {"N": n, "r": r, "p": p}
    forged = json.dumps(fields).encode()
    place = MemoryBackend()
    place.put(Kind.KEYS, digest(forged).hex(), forged)
    start = time.monotonic()
    with pytest.raises(DamagedRepositoryError):
        open_key(place, Secret("x"))
    assert time.monotonic() - start < 1


def _key_file(backend: MemoryBackend) -> bytes:
    """Return the bytes of a fresh key file."""
    return backend.get(Kind.KEYS, _add(backend, "x").hex())


def test_no_keys_is_no_repository_or_damage() -> None:
    """Without config there is no repository; with config and no keys it is damaged."""
    backend = MemoryBackend()
    with pytest.raises(RepositoryNotFoundError):
        open_key(backend, Secret("x"))
    backend.put(Kind.CONFIG, CONFIG_NAME, b"sealed")
    with pytest.raises(DamagedRepositoryError, match="no key files"):
        open_key(backend, Secret("x"))


def test_scrypt_gives_the_published_vector() -> None:
    """The second test vector of RFC 7914, section 12."""
    expected = "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
    found = derive(Secret("password"), b"NaCl", ScryptParameters(1024, 8, 16))
    assert found[:32].hex() == expected


def test_calibration_takes_about_half_a_second() -> None:
    """The parameters made for this machine are acceptable ones of at most 60 MiB."""
    parameters = calibrate(SystemClock())
    parameters.check()
    assert 128 * parameters.n * parameters.r <= 60 << 20
    assert 1 <= parameters.p <= 16
