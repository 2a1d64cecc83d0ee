"""Chooses the ndb model of each kind while an updater runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.cloud import ndb

from bulkup.authoring.ndb_private import kind_map


@contextmanager
def models_beside(*classes: type) -> Iterator[None]:
    """Within this block, ndb uses the models in the modules of `classes`, and those in `classes`.

    ndb knows only one model of each kind: the last one defined, in any file. With this, two
    migrations that each define a `Person` both get their own, even in the same process.
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
