"""The handler for what a plan reads: not every entity of it is for the updater."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bulkup.authoring.acceptance import acceptance_of
from bulkup.authoring.updater import Updater
from bulkup.datastore.reads import ABSENT
from bulkup.engine.handle import Handler
from bulkup.engine.handled import Handled
from bulkup.engine.key_scan import KeyPlan
from bulkup.engine.scan import QueryPlan


class KeyHandler(Handler):
    """Of a list of keys: an entity that is not there has vanished."""

    def handle(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        if result.version == ABSENT:
            return Handled.gone(key, cursor)
        return super().handle(result, key, cursor)


def make_handler(
    updater: Updater,
    query: QueryPlan,
    *,
    keeps_before: bool = False,
    keeps_images: bool = False,
    fresh_from: int = 0,
) -> Handler:
    """The handler for what a plan reads. See `Handler`. Raises UsageError."""
    is_sure = not isinstance(query, KeyPlan) or query.keys.absent
    handler = Handler if is_sure else KeyHandler
    calls = _unless_done(updater) if query.is_repeated else None
    return handler(
        updater, query,
        keeps_before=keeps_before, keeps_images=keeps_images, fresh_from=fresh_from, calls=calls,
    )  # fmt: skip


def _unless_done(updater: Updater) -> Callable[[Any], Any] | None:
    """In a further pass (`--until-clean`), an entity that is done is left alone; None: the updater
    does not say which are, and handles all again."""
    is_done = acceptance_of(updater, type(updater).__name__)
    if is_done is None:
        return None

    def handle_unless_done(entity: Any) -> Any:
        answer = is_done(entity)
        if answer is None:
            raise TypeError("is_done returned None; return True or False")
        return None if answer else updater.handle_entity(entity)

    return handle_unless_done
