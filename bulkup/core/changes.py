"""A write that a dry run or a plan predicts, and its form as the fields of a JSON line.

Keys, names and values come from entities: they are untrusted, and a printer must escape them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bulkup.core.typed_key import typed_key


@dataclass(frozen=True)
class PropertyChange:
    name: str
    before: str | None
    """None: the property is new."""
    after: str | None
    """None: the property is removed."""
    values: Callable[[], tuple[Any, Any]] | None = field(default=None, compare=False, repr=False)
    """The values before and after in the form of Datastore's REST API, for programs."""


@dataclass(frozen=True)
class WouldChange:
    """One write that a dry run would have made."""

    key: str
    action: str
    """`put` or `delete`."""
    changes: tuple[PropertyChange, ...] = ()


def change_fields(event: WouldChange) -> dict[str, Any]:
    changes = [(change.name, change.before, change.after) for change in event.changes]
    values = [(c.name, *c.values()) for c in event.changes if c.values is not None]
    return {
        "key": event.key,
        "typed_key": typed_key(event.key),
        "action": event.action,
        "changes": [{"name": name, "before": old, "after": new} for name, old, new in changes],
        "values": [{"name": name, "before": old, "after": new} for name, old, new in values],
    }


def change_of(fields: Any) -> WouldChange:
    """The change that `change_fields` wrote, without the values. Raises KeyError, TypeError."""
    return WouldChange(
        str(fields["key"]),
        str(fields["action"]),
        tuple(
            PropertyChange(str(one["name"]), one["before"], one["after"])
            for one in fields["changes"]
        ),
    )
