"""The handler of a run on a list of keys, some of which may have no entity."""

from __future__ import annotations

from typing import Any

from bulkup.authoring.updater import Updater
from bulkup.datastore.reads import ABSENT
from bulkup.engine.handle import Handler
from bulkup.engine.handled import Handled
from bulkup.engine.key_scan import KeyPlan
from bulkup.engine.scan import QueryPlan


class KeyHandler(Handler):
    """Does not call the updater for an entity that is not there."""

    def handle(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        if result.version == ABSENT:
            return Handled.gone(key, cursor)
        return super().handle(result, key, cursor)


def make_handler(
    updater: Updater, query: QueryPlan, *, keeps_before: bool = False, fresh_from: int = 0
) -> Handler:
    """The handler for what a plan reads. See `Handler`."""
    is_sure = not isinstance(query, KeyPlan) or query.keys.absent
    handler = Handler if is_sure else KeyHandler
    return handler(updater, query, keeps_before=keeps_before, fresh_from=fresh_from)
