"""Connect to the ledger of a target, for commands that execute no updater."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from bulkup.core.clock import Clock
from bulkup.core.model import TargetInfo
from bulkup.datastore.connect import open_rpc
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.runs.target import TargetOptions, open_target
from bulkup.state.run_records import Ledger

RETRY_FOR_S = 60.0
"""How long these commands retry while Datastore is unavailable."""


@contextmanager
def open_connection(
    options: TargetOptions, *, only_reads: bool = False
) -> Iterator[tuple[Rpc, TargetInfo]]:
    """Raises BulkupError when the target does not answer, also for calls made in the block.

    `only_reads`: see `open_target`.
    """
    with (
        open_target(options, only_reads=only_reads) as target,
        closing(open_rpc(target, RetryPolicy(RETRY_FOR_S), Clock())) as rpc,
        explained(rpc),
    ):
        yield rpc, target.info


@contextmanager
def open_ledger(
    options: TargetOptions, *, only_reads: bool = False
) -> Iterator[tuple[Ledger, TargetInfo]]:
    """`open_connection`, with the ledger of the target."""
    with open_connection(options, only_reads=only_reads) as (rpc, target):
        yield Ledger(rpc, target), target
