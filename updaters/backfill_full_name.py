"""Backfill a property: one function, one parameter.

bulkup run updaters/backfill_full_name.py -p sep=" "
"""

from __future__ import annotations

from google.cloud.datastore import Entity

import bulkup


@bulkup.updater(kind="Person", max_failures=10)
def add_full_name(entity: Entity, *, sep: str = " ") -> Entity | None:
    """Backfill full_name on every Person that has none."""
    if entity.get("full_name"):
        return None
    entity["full_name"] = sep.join([entity["first"], entity["last"]])
    return entity
