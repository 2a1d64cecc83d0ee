"""Ready-made changes of entities, as functions for handlers of your own, and as built-in updaters.

import bulkup
from bulkup.transforms import compose, drop, rename, retype

TIDY = compose(rename("fullname", "full_name"), retype("age", "int"), drop("tmp"))

@bulkup.updater(kind="Person", is_done=TIDY.is_done)
def tidy(person):
    return TIDY(person)

docs/builtins.md describes them. Users may rely on the names in `__all__`.
"""

from __future__ import annotations

from bulkup.transforms.built_in import BulkDeleteKind, BulkPutKind
from bulkup.transforms.indexing import index, unindex
from bulkup.transforms.key_updaters import ChangeKey, MergeKind, SplitKind
from bulkup.transforms.keys import key_from_property, key_of_kind
from bulkup.transforms.moving import Move, move
from bulkup.transforms.properties import drop, embed, rename, set_default
from bulkup.transforms.property_updaters import (
    ChangeIndex,
    DropProperty,
    EmbedProperties,
    RenameProperty,
    RetypeProperty,
    SetDefault,
)
from bulkup.transforms.references import FindReferences
from bulkup.transforms.retyping import retype
from bulkup.transforms.transform import Transform, compose

__all__ = [
    "BulkDeleteKind",
    "BulkPutKind",
    "ChangeIndex",
    "ChangeKey",
    "DropProperty",
    "EmbedProperties",
    "FindReferences",
    "MergeKind",
    "Move",
    "RenameProperty",
    "RetypeProperty",
    "SetDefault",
    "SplitKind",
    "Transform",
    "compose",
    "drop",
    "embed",
    "index",
    "key_from_property",
    "key_of_kind",
    "move",
    "rename",
    "retype",
    "set_default",
    "unindex",
]
