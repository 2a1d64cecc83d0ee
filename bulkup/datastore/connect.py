"""The one place that opens a connection to a target."""

from __future__ import annotations

from bulkup.core.clock import Clock
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.server_time import ServerTime
from bulkup.datastore.target import Target


def open_rpc(target: Target, retry_policy: RetryPolicy, clock: Clock) -> Rpc:
    """Open a connection; the caller closes it. Nothing is sent yet."""
    return Rpc(
        target.client,
        retry_policy=retry_policy,
        sleep=clock.sleep,
        monotonic=clock.monotonic,
        server_time=ServerTime(clock.elapsed, clock.unix),
    )
