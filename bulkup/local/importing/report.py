"""What was loaded from an export, and what was not and why."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from bulkup.local.limits import key_text

_MAX_GROUPS = 100
"""Maximum groups of each sort, so that messages that vary per entity cannot make memory grow."""
_VARYING = re.compile(r'"[^"]*"|\[.*\]|\d[\d.,]*')
"""What differs between messages about the same fault: names, keys, numbers."""


class KindCount(NamedTuple):
    """How many entities of a kind are in a file."""

    namespace: str
    kind: str
    entities: int


@dataclass(frozen=True)
class Group:
    """Entities of a kind with the same fault."""

    kind: str
    """Empty: several kinds."""
    reason: str
    """The message about the first of them, as the service would give it."""
    entities: int
    first: str
    """The key of the first one, as messages show it."""


@dataclass(frozen=True)
class LoadReport:
    """What a load has done; after an interruption, all attempts together.

    `exported` = `entities` + `repeated` + `left_out` + `not_sampled` + those of `skipped`.
    """

    entities: int
    """How many entities are in the file."""
    kinds: tuple[KindCount, ...]
    """The same by namespace and kind, sorted."""
    exported: int
    """How many the export holds. For parts that were not read, according to its metadata."""
    left_out: int
    """Of other kinds or namespaces than those requested."""
    not_sampled: int
    """Not in the requested sample."""
    repeated: int
    """Entities whose key had come before; the later entity replaced the earlier one."""
    skipped: tuple[Group, ...]
    """Not loaded: the embedded Datastore cannot hold them."""
    irregular: tuple[Group, ...]
    """Loaded, but an updater that puts one of them unfixed is refused."""
    resumed_at: int = 0
    """How many an earlier attempt had loaded; 0 if this attempt is the only one."""
    deleted_another: bool = False
    """Whether the remains of an interrupted load of another export, or with other options, were
    deleted."""
    was_loaded: bool = False
    """Whether the file already held exactly this, so that nothing was done."""

    @property
    def skipped_entities(self) -> int:
        return sum(group.entities for group in self.skipped)

    @property
    def irregular_entities(self) -> int:
        return sum(group.entities for group in self.irregular)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> LoadReport:
        return cls(
            **{
                **given,
                "kinds": tuple(KindCount(*one) for one in given["kinds"]),
                "skipped": tuple(Group(**one) for one in given["skipped"]),
                "irregular": tuple(Group(**one) for one in given["irregular"]),
            }
        )


class Groups:
    """Groups entities that have the same fault."""

    def __init__(self, given: list[dict[str, Any]] | None = None) -> None:
        self._groups: dict[tuple[str, str], Group] = {}
        for one in given or ():
            group = Group(**one)
            self._groups[self._place(group.kind, group.reason)] = group

    def add(self, key: Any, reason: str) -> None:
        kind = key.path[-1].kind if key.path else ""
        place = self._place(kind, reason)
        known = self._groups.get(place)
        if known is None and len(self._groups) >= _MAX_GROUPS:
            kind, reason, place = "", "other reasons", ("", "")
            known = self._groups.get(place)
        if known is None:
            self._groups[place] = Group(kind, reason, 1, key_text(key))
        else:
            self._groups[place] = replace(known, entities=known.entities + 1)

    def all(self) -> tuple[Group, ...]:
        """All groups, the largest first."""
        return tuple(sorted(self._groups.values(), key=lambda one: (-one.entities, one.kind)))

    def to_json(self) -> list[dict[str, Any]]:
        return [asdict(group) for group in self._groups.values()]

    @staticmethod
    def _place(kind: str, reason: str) -> tuple[str, str]:
        return (kind, _VARYING.sub("…", reason)) if kind or reason != "other reasons" else ("", "")
