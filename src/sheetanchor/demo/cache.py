"""The demonstration's cache: keys of every type, with and without expiry, in two databases."""

from __future__ import annotations

import hashlib
import random

import redis

from sheetanchor.components.redis.address import address_of
from sheetanchor.components.redis.digest import contents
from sheetanchor.components.redis.wire import Wire
from sheetanchor.config.models import RedisConfig

HOUR = 3600
DAY = 24 * HOUR
_LIBRARY = (
    "#!lua name=shop\nserver.register_function('gross', function(keys, args) return args[1] * 1.19 end)"
)


def fill(url: str, seed: int) -> None:
    """Put in some 25,000 keys. Nothing expires within a day."""
    dice = random.Random(seed)
    with redis.Redis.from_url(url) as client, client.pipeline(transaction=False) as batch:
        _fill_sessions(batch, dice)
        _fill_catalogue(batch, dice)
        _fill_queues(batch, dice)
        batch.function_load(_LIBRARY)
        batch.select(1)
        for number in range(3000):
            batch.set(f"limit:{number}", dice.randrange(100), ex=2 * DAY + number)
        batch.execute()


def _fill_sessions(batch: redis.client.Pipeline, dice: random.Random) -> None:
    for number in range(6000):
        name = f"session:{dice.getrandbits(128):032x}"
        batch.hset(name, mapping={"user": number, "token": dice.randbytes(24), "language": "de"})
        batch.expire(name, DAY + dice.randrange(29 * DAY))
    for number in range(2000):
        name = f"cart:{number}"
        batch.hset(name, mapping={f"product:{dice.randrange(2000)}": dice.randrange(1, 9) for _ in range(5)})
        batch.hset(name, "reserved", "1")
        batch.hexpire(name, 3 * DAY, "reserved")


def _fill_catalogue(batch: redis.client.Pipeline, dice: random.Random) -> None:
    for number in range(8000):
        batch.set(f"page:{number}", f"<li>{dice.getrandbits(64)}</li>" * 8, ex=DAY + dice.randrange(DAY))
    for number in range(4000):
        batch.set(f"stock:{number}", dice.randrange(1000))
        batch.sadd(f"tag:{number % 50}", number, f"name {number}")
    batch.zadd("bestsellers", {f"product:{number}": dice.random() * 1e6 for number in range(10_000)})
    batch.geoadd("shops", [value for number in range(200) for value in _place(dice, number)])
    batch.pfadd("visitors", *(dice.getrandbits(64) for _ in range(5000)))
    for _ in range(500):
        batch.setbit("active", dice.randrange(100_000), 1)
    batch.set(b"binary \x00\xff name", dice.randbytes(1 << 20))


def _place(dice: random.Random, number: int) -> tuple[float, float, str]:
    return dice.uniform(-170, 170), dice.uniform(-80, 80), f"shop {number}"


def _fill_queues(batch: redis.client.Pipeline, dice: random.Random) -> None:
    batch.rpush("mail", *(f"message {dice.getrandbits(64)}" for _ in range(5000)))
    for number in range(1, 5001):
        batch.xadd("orders", {"number": number, "total": dice.randrange(10_000)}, id=f"{number}-0")
    batch.xgroup_create("orders", "billing", id="0")
    batch.xreadgroup("billing", "worker 1", {"orders": ">"}, count=100)
    batch.xack("orders", "billing", *(f"{number}-0" for number in range(1, 51)))


def fingerprint(url: str) -> dict[str, str]:
    """Describe every database's keys by our digest and by the server's own."""
    found: dict[str, str] = {}
    address = address_of(RedisConfig.model_validate({"name": "cache", "type": "redis", "url": url}))
    with Wire(address) as wire:
        seen = contents(wire, reference_ms=0)
        own = wire.call("DEBUG", "DIGEST")
    for index, keys, expiring in seen.keys:
        found[f"database {index}"] = f"{keys:,} keys, {expiring:,} expire"
    for name, keys in seen.types:
        found[f"type {name}"] = f"{keys:,} keys"
    values = repr((seen.lasting, seen.expiring)).encode()
    found["values and expiries"] = hashlib.sha256(values).hexdigest()[:10]
    found["the server's own digest"] = own[:10].decode() if isinstance(own, bytes) else "none"
    found["functions"] = f"{seen.functions.count} {seen.functions.digest[:10]}"
    return found
