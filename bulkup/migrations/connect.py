"""The ledger of a target, for commands that run no updater."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bulkup.facts import TargetInfo
from bulkup.jobs import Where, opened
from bulkup.state.ledger import Ledger
from bulkup.wire.client import Wire
from bulkup.wire.explain import explained
from bulkup.wire.retries import Patience


@contextmanager
def wired(where: Where, *, retry_for_s: float = 60.0) -> Iterator[tuple[Wire, TargetInfo]]:
    """Raises BulkupError when the target does not answer, also for calls made inside."""
    with opened(where) as target:
        wire = Wire(target.client, patience=Patience(retry_for_s))
        try:
            with explained(wire):
                yield wire, target.info
        finally:
            wire.close()


@contextmanager
def connected(where: Where) -> Iterator[tuple[Ledger, TargetInfo]]:
    """`wired`, with the ledger of the target."""
    with wired(where) as (wire, info):
        yield Ledger(wire, info), info
