"""Chooses where handlers run: in this thread, on an event loop, in worker processes."""

from __future__ import annotations

from typing import NamedTuple

from bulkup.core.spans import Observer
from bulkup.engine.accounts import Accounts
from bulkup.engine.async_handler import AsyncHandler
from bulkup.engine.dispatch import Dispatcher
from bulkup.engine.hints import Hints
from bulkup.engine.in_process import InProcessPool
from bulkup.engine.key_handler import make_handler
from bulkup.engine.loop_pool import LoopPool
from bulkup.engine.observing import observed_workers
from bulkup.engine.pool.pool import WorkerPool
from bulkup.engine.slow_handler import SlowHandler
from bulkup.engine.task import Task
from bulkup.engine.together import in_process


class ChosenHandlers(NamedTuple):
    handlers: InProcessPool | Dispatcher
    loop: AsyncHandler | None = None
    """The handler of an async updater, which must be closed."""
    loop_pool: LoopPool | None = None
    """Must be entered before it works."""


def choose_handlers(
    task: Task,
    accounts: Accounts,
    slow: SlowHandler,
    workers: WorkerPool | None,
    observer: Observer | None,
    *,
    keeps_before: bool,
    no_undo: bool,
) -> ChosenHandlers:
    """`keeps_before`: this is a dry run, which compares each entity with what was read."""
    is_ranged = bool(task.query.ranged)
    if workers is not None:
        workers.on_handled = observed_workers(observer, slow.took, task.rpc)
        hints = Hints(task.updater)
        return ChosenHandlers(Dispatcher(workers, accounts, hints, ranged=is_ranged))
    handler = make_handler(
        task.updater, task.query, task.rpc,
        keeps_before=keeps_before, keeps_images=not (keeps_before or no_undo),
    )  # fmt: skip
    if isinstance(handler, AsyncHandler):
        if not keeps_before:
            pool = LoopPool(handler, task.rpc)
            pool.on_handled = slow.took
            dispatcher = Dispatcher(pool, accounts, handler.hints, ranged=is_ranged)
            return ChosenHandlers(dispatcher, handler, pool)
        return ChosenHandlers(in_process(handler, accounts, slow), handler)
    return ChosenHandlers(in_process(handler, accounts, slow))
