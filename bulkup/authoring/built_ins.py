"""The names of the built-in updaters, and where their classes are.

Each name has a hyphen, so it can never be the name of a user's module. The classes are in a higher
layer, so they are imported only when needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

BUILT_INS: Mapping[str, str] = {
    "rename-property": "property_updaters:RenameProperty",
    "retype-property": "property_updaters:RetypeProperty",
    "set-default": "property_updaters:SetDefault",
    "drop-property": "property_updaters:DropProperty",
    "embed-properties": "property_updaters:EmbedProperties",
    "change-index": "property_updaters:ChangeIndex",
    "change-key": "key_updaters:ChangeKey",
    "split-kind": "key_updaters:SplitKind",
    "merge-kind": "key_updaters:MergeKind",
    "find-references": "references:FindReferences",
    "bulk-put": "built_in:BulkPutKind",
    "bulk-delete": "built_in:BulkDeleteKind",
}
"""By name: the module in `bulkup.transforms` and the class in it, as `module:Class`."""

_NAMES = {f"bulkup.transforms.{place}": name for name, place in BUILT_INS.items()}

CLASS_NAMES = frozenset(place.rpartition(":")[2] for place in BUILT_INS.values())


def built_in(name: str) -> Any:
    """The class of the built-in updater of this name, or None."""
    place = BUILT_INS.get(name)
    if place is None:
        return None
    module, _, class_name = place.partition(":")
    return getattr(import_module(f"bulkup.transforms.{module}"), class_name)


def built_in_name(definition: Any) -> str:
    """The name of a built-in updater; empty if `definition` is not one."""
    module, name = getattr(definition, "__module__", ""), getattr(definition, "__qualname__", "")
    return _NAMES.get(f"{module}:{name}", "")


def is_built_in(definition: Any) -> bool:
    return bool(built_in_name(definition))
