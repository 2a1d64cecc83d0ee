"""Makes the handler for an updater and a query plan. It may skip some of what the plan reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bulkup.authoring.acceptance import acceptance_of
from bulkup.authoring.definitions import check_concurrency
from bulkup.authoring.function_updater import FunctionUpdater
from bulkup.authoring.updater import Updater
from bulkup.core.places import before_call
from bulkup.datastore.reads import ABSENT
from bulkup.datastore.rpc import Rpc
from bulkup.engine.any_handler import AnyHandler
from bulkup.engine.async_handler import AsyncHandler
from bulkup.engine.batch_handler import BatchHandler
from bulkup.engine.call_setup import CallSetup
from bulkup.engine.handle import Handler
from bulkup.engine.handled import Handled
from bulkup.engine.key_scan import KeyPlan
from bulkup.engine.scan import QueryPlan


class KeyHandler(Handler):
    """For a list of keys: an entity that is not there counts as vanished."""

    def handle(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        if result.version == ABSENT:
            return Handled.gone(key, cursor)
        return super().handle(result, key, cursor)


def make_handler(
    updater: Updater,
    query: QueryPlan,
    rpc: Rpc,
    *,
    keeps_before: bool = False,
    keeps_images: bool = False,
    fresh_from: int = 0,
) -> AnyHandler:
    """Make the handler for what a plan reads. See `CallSetup`. Raises UsageError."""
    is_sure = not isinstance(query, KeyPlan) or query.keys.absent
    is_done = _checked_is_done(updater) if query.is_repeated else None
    setup = CallSetup(
        updater, query,
        keeps_before=keeps_before, keeps_images=keeps_images, fresh_from=fresh_from,
        is_done=is_done, may_be_absent=not is_sure,
    )  # fmt: skip
    if updater._form == "handle_batch":
        return BatchHandler(setup)
    calls = updater.handle_entity
    if updater._is_async:
        if isinstance(updater, FunctionUpdater):
            calls = updater.handle_async
        check_concurrency(updater.concurrency, type(updater).__name__)  # it may be a parameter
        calls = calls if is_done is None else _unless(is_done, calls)
        return AsyncHandler(replace(setup, calls=calls), rpc)
    handler = Handler if is_sure else KeyHandler
    return handler(setup if is_done is None else replace(setup, calls=_unless(is_done, calls)))


def _unless(
    is_done: Callable[[Any], bool], handle_entity: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    return lambda entity: None if is_done(entity) else handle_entity(entity)


def _checked_is_done(updater: Updater) -> Callable[[Any], bool] | None:
    """The updater's `is_done`, for a further pass (`--until-clean`), which leaves done entities
    alone. None if the updater does not say which are done: then all are handled again."""
    is_done = acceptance_of(updater, type(updater).__name__)
    if is_done is None:
        return None

    def checked(entity: Any) -> bool:
        answer = is_done(entity)
        if answer is None:
            raise before_call(TypeError("is_done returned None; return True or False"))
        return bool(answer)

    return checked
