"""The kind that the stub holds, as bytes that were encoded once."""

from __future__ import annotations

import random
from typing import Any

from google.cloud.datastore_v1.types import entity as _entity
from google.cloud.datastore_v1.types import query as _query

PROJECT, KIND = "benchmark", "Person"
FIRST_ID = 5_000_000_000_000_000 >> 14 << 14
"""Ids as Datastore allocates them, 16 digits: 8 bytes as a varint, for any number we add."""
VERSION = 1_700_000_000_000_000
"""Of every entity: microseconds, as servers make them."""
_CACHED_BYTES = 256 << 20
_WARM_PAGE = 500

Batch: Any = _query.QueryResultBatch.pb()
Entity: Any = _entity.Entity.pb()
EntityResult: Any = _query.EntityResult.pb()
Key: Any = _entity.Key.pb()


def person(number: int, rng: random.Random, size: int) -> Any:
    """About `size` bytes in 10 properties, 8 of them indexed; without a key."""
    entity = Entity()
    properties = entity.properties
    properties["name"].string_value = f"Person {number:06d}"
    properties["email"].string_value = f"person{number}@example.com"
    properties["group"].integer_value = number % 100
    properties["score"].double_value = rng.random()
    properties["visits"].integer_value = rng.randrange(10_000)
    properties["active"].boolean_value = bool(rng.getrandbits(1))
    properties["joined"].timestamp_value.seconds = 1_500_000_000 + rng.randrange(10**8)
    for tag in rng.sample(("red", "green", "blue", "black", "white"), 2):
        properties["tags"].array_value.values.add().string_value = tag
    properties["home"].entity_value.properties["city"].string_value = f"City {number % 300}"
    properties["home"].exclude_from_indexes = True
    properties["about"].exclude_from_indexes = True
    text = "lorem ipsum dolor " * (1 + size // 18)
    properties["about"].string_value = text[: max(1, size - entity.ByteSize() - 6)]
    return entity


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(tag: int, content: bytes) -> bytes:
    return varint(tag << 3 | 2) + varint(len(content)) + content


def key_of(position: int) -> Any:
    key = Key(partition_id={"project_id": PROJECT})
    key.path.add(kind=KIND, id=FIRST_ID + position)
    return key


def cursor_after(position: int) -> bytes:
    return (position + 1).to_bytes(8, "big")


class Pages:
    """The kind's entities as encoded results. An id's 14 low bits change with every entity, the
    rest seldom; bodies repeat."""

    def __init__(self, count: int, body_bytes: int) -> None:
        self.count = count
        rng = random.Random(1)
        kinds = max(4, min(1000, (4 << 20) // body_bytes))
        bodies = [
            person(number, rng, body_bytes).SerializeToString(deterministic=True)
            for number in range(kinds)
        ]
        self.body_bytes = sum(map(len, bodies)) // len(bodies)
        self._low = [bytes((i & 0x7F | 0x80, i >> 7 | 0x80)) for i in range(1 << 14)]
        self._high: dict[int, bytes] = {}
        example = EntityResult(version=VERSION)
        example.update_time.seconds = example.create_time.seconds = VERSION // 1_000_000
        self._tail = example.SerializeToString()
        self._full = [self._around(body) for body in bodies]
        self._keys_only = [self._around(b"")]
        self._cache: dict[tuple[int, int, bool], bytes] = {}
        self._cached = 0
        for start in range(0, count, _WARM_PAGE):
            if self._cached > _CACHED_BYTES - 2 * _WARM_PAGE * body_bytes:
                break
            # Before anyone is measured, so that the first round is like the others.
            self.results(start, min(start + _WARM_PAGE, count), False)

    def _around(self, body: bytes) -> tuple[bytes, bytes]:
        """What is before the id, and between it and the cursor."""
        key = key_of(0).SerializeToString()
        entity = field(1, key) + body
        result = field(1, entity) + b"\x1a\x08" + bytes(8) + self._tail
        whole = field(2, result)
        head = whole[: whole.index(key) + len(key) - 8]
        return head, body + b"\x1a\x08"

    def results(self, start: int, end: int, keys_only: bool) -> bytes:
        """The `entity_results` of a batch: those at `start` up to `end`, which is left out."""
        known = self._cache.get((start, end, keys_only))
        if known is None:
            known = self._join(start, end, keys_only)
            if self._cached + len(known) <= _CACHED_BYTES:
                self._cache[start, end, keys_only] = known
                self._cached += len(known)
        return known

    def _join(self, start: int, end: int, keys_only: bool) -> bytes:
        around, low, tail = self._keys_only if keys_only else self._full, self._low, self._tail
        bodies, pieces = len(around), []
        for position in range(start, end):
            head, middle = around[position % bodies]
            high = self._high.get(position >> 14)
            if high is None:
                high = varint(FIRST_ID + position)[2:]
                self._high[position >> 14] = high
            pieces += (
                head, low[position & 0x3FFF], high, middle, (position + 1).to_bytes(8, "big"), tail
            )  # fmt: skip
        return b"".join(pieces)
