"""The ledger of a target, for commands that run no updater."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bulkup.core.model import TargetInfo
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.runs.prepare import TargetOptions, opened
from bulkup.state.run_records import Ledger


@contextmanager
def connected_rpc(
    where: TargetOptions, *, retry_for_s: float = 60.0
) -> Iterator[tuple[Rpc, TargetInfo]]:
    """Raises BulkupError when the target does not answer, also for calls made inside."""
    with opened(where) as target:
        rpc = Rpc(target.client, retry_policy=RetryPolicy(retry_for_s))
        try:
            with explained(rpc):
                yield rpc, target.info
        finally:
            rpc.close()


@contextmanager
def connected(where: TargetOptions) -> Iterator[tuple[Ledger, TargetInfo]]:
    """`wired`, with the ledger of the target."""
    with connected_rpc(where) as (rpc, info):
        yield Ledger(rpc, info), info
