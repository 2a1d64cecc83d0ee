"""Whether an updater can be loaded, found out before there is any data.

Its code runs in a process of its own, in which the environment names a Datastore that refuses every
call.
"""

from __future__ import annotations

from collections.abc import Callable

from bulkup.core.errors import BulkupError
from bulkup.local.endpoint import HOST, Endpoint
from bulkup.local.service import SERVICE
from bulkup.local.status import invalid
from bulkup.rehearsal.work import Ended, Job, Pending

_CALLS = (
    "Lookup", "RunQuery", "RunAggregationQuery", "BeginTransaction", "Commit", "Rollback",
    "AllocateIds", "ReserveIds",
)  # fmt: skip


class NoData:
    """A Datastore that has no data yet and refuses every call; a context manager."""

    def __init__(self) -> None:
        self.was_asked = False
        self._endpoint = Endpoint(0, SERVICE, dict.fromkeys(_CALLS, self._refuse))
        self.host = f"{HOST}:{self._endpoint.port}"

    def _refuse(self, _: bytes) -> bytes:
        self.was_asked = True
        # No client retries an invalid call.
        raise invalid("The data is not loaded yet.")

    def __enter__(self) -> NoData:
        return self

    def __exit__(self, *_: object) -> None:
        self._endpoint.stop(0)


def check_loads(make_job: Callable[[str], Job], run: Callable[[Job], Ended | Pending]) -> None:
    """Raises BulkupError if an updater cannot be loaded, or its parameters are wrong.

    `make_job`: makes the job that loads it, from the address of its Datastore. An updater that
    reads entities while it is loaded may fail because there are none; that proves nothing.
    """
    with NoData() as server:
        try:
            ended = run(make_job(server.host))
        except BulkupError:
            if server.was_asked:
                return
            raise
        assert isinstance(ended, Ended)
        if ended.refusal is not None and not server.was_asked:
            raise ended.refusal.error()
