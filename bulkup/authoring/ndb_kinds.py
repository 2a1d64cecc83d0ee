"""Which model stands for a kind, while an updater works."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.cloud import ndb

from bulkup.authoring.ndb_private import kind_map


@contextmanager
def models_beside(*classes: type) -> Iterator[None]:
    """ndb knows one model of each kind: the last one that was defined, by any file. Until the end
    of the block these are the models that `classes` were defined beside, and those among them.

    Two migrations that each have their own `Person` so get their own, in the same process too.
    """
    before = dict(kind_map)
    for cls in classes:
        module: Any = sys.modules.get(cls.__module__)
        beside = vars(module).values() if module else ()
        for model in filter(_is_model, [*beside, cls]):
            model._update_kind_map()
    try:
        yield
    finally:
        kind_map.clear()
        kind_map.update(before)


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, ndb.Model) and value is not ndb.Model
