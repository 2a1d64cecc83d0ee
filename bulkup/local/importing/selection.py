"""Which entities of an export are wanted."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from bulkup.core.errors import UsageError
from bulkup.core.visible import visible
from bulkup.local.encoding import encode_path
from bulkup.local.exports.metadata import Part

_HASHES = 1 << 64
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,9})?)\s*%", re.ASCII)


def parse_sample(text: str) -> float:
    """`1%` or `0.5%` -> the share of the entity groups. Raises UsageError."""
    found = _PERCENT.fullmatch(text.strip())
    share = float(found[1]) / 100 if found else 0.0
    if not 0 < share <= 1:
        raise UsageError(f"{text!r} is not a sample; write a percentage up to 100%, such as 1%")
    return share


@dataclass(frozen=True)
class Selection:
    """What to load of an export; by default everything."""

    kinds: tuple[str, ...] = ()
    """Empty: all."""
    namespaces: tuple[str, ...] = ()
    """Empty: all. The default namespace is the empty string."""
    sample: float | None = None
    """The share of the entity groups to load, above 0 and up to 1. Groups are chosen by a hash of
    their root key, so the choice is always the same, and a larger sample includes a smaller one.
    """

    def may_hold(self, part: Part) -> bool:
        """Whether a part of an export may hold entities of these kinds and namespaces."""
        kinds, namespaces = part.kinds, part.namespaces
        return (not self.kinds or not kinds or not set(self.kinds).isdisjoint(kinds)) and (
            not self.namespaces
            or namespaces is None
            or not set(self.namespaces).isdisjoint(namespaces)
        )

    def names(self, key: Any) -> bool:
        """Whether the key of an entity is of these kinds and namespaces."""
        if self.namespaces and key.partition_id.namespace_id not in self.namespaces:
            return False
        return not self.kinds or (bool(key.path) and key.path[-1].kind in self.kinds)

    def asked_for(self) -> str:
        """`of kind A or B, in namespace x`, as messages show it; empty if all are wanted."""
        parts = []
        if self.kinds:
            parts.append(f"of kind {' or '.join(map(visible, self.kinds))}")
        if self.namespaces:
            parts.append(f"in namespace {' or '.join(map(visible, self.namespaces))}")
        return ", ".join(parts)

    def samples(self, key: Any) -> bool:
        """Whether the entity group of a key is in the sample."""
        return self.sample is None or group_hash(key) < self.sample * _HASHES


def group_hash(key: Any) -> int:
    """A 64-bit hash of a key's namespace and root, the same on every machine."""
    digest = hashlib.blake2b(encode_path(key.path[:1]), digest_size=8, person=b"bulkup sample")
    digest.update(key.partition_id.namespace_id.encode())
    return int.from_bytes(digest.digest())
