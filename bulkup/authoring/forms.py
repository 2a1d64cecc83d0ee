"""Which form of handler an updater has: one call for an entity, or one call for a batch of them."""

from __future__ import annotations

from bulkup.authoring.function_updater import FunctionUpdater
from bulkup.authoring.updater import Updater


def handles_batches(updater: Updater) -> bool:
    if isinstance(updater, FunctionUpdater):
        return updater.spec.batch
    return type(updater).handle_batch is not Updater.handle_batch
