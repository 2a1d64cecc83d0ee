"""Connect to the ledger of a target, for commands that execute no updater."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from bulkup.core.clock import Clock
from bulkup.core.errors import NoTargetError, NotFoundError
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
def no_target_is(not_here: str, options: TargetOptions) -> Iterator[None]:
    """If nothing says in which Datastore to look for a run, report that the run is not here.

    Raises NotFoundError in place of NoTargetError.
    """
    try:
        yield
    except NoTargetError as error:
        if options.project or options.local:
            raise
        raise NotFoundError(
            f"{not_here}; --project or --local says in which Datastore to look for it, "
            "`bulkup list` shows the runs here"
        ) from error


@contextmanager
def open_connection(
    options: TargetOptions, *, only_reads: bool = False
) -> Iterator[tuple[Rpc, TargetInfo]]:
    """Connect to a target. Raises BulkupError when it does not answer, also for calls made in the
    block.

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
