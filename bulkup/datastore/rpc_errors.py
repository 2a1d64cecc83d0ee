"""What a call that failed for good means, in one sentence with the next thing to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from bulkup.core.errors import BulkupError, QueryError, TargetError
from bulkup.datastore.retry import CallError

if TYPE_CHECKING:
    from bulkup.datastore.rpc import Rpc

NO_CREDENTIALS = (
    "no usable Google credentials: run `gcloud auth application-default login`, or set "
    "GOOGLE_APPLICATION_CREDENTIALS, or point DATASTORE_EMULATOR_HOST at an emulator"
)


def explain(error: CallError, *, address: str, project: str, contacted: bool) -> BulkupError:
    """Turn the error of a call into one that a user can act on."""
    code, details = error.code, error.details
    says = f"the server says: {details}" if details else "the server gives no reason"
    if error.lacks_credentials or code is grpc.StatusCode.UNAUTHENTICATED:
        return TargetError(NO_CREDENTIALS, details=details)
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return TargetError(
            f"no permission for {error.call} on project {project}: grant the role "
            f"roles/datastore.user to the account you run as, or name another with --project "
            f"({says})"
        )
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        if contacted:
            return TargetError(
                f"the Datastore at {address} stopped answering ({code.name}) and patience ran "
                "out; when it is back, continue with `bulkup resume` (--retry-for waits longer)"
            )
        return TargetError(
            f"no Datastore answers at {address}: start it, or point elsewhere with "
            "DATASTORE_EMULATOR_HOST=host:port (an emulator) or without that variable and with "
            "--project (the real service)",
            details=details,
        )
    if code is grpc.StatusCode.FAILED_PRECONDITION and "index" in details.lower():
        return QueryError(
            "the query needs a composite index that does not exist: create the one below "
            "(`gcloud datastore indexes create index.yaml`), wait until it is built, run again",
            details=details,
        )
    if code is grpc.StatusCode.NOT_FOUND:
        return TargetError(
            f"project {project} has no such Datastore database: check --project and --database "
            f"({says})"
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return TargetError(
            f"Datastore refuses {error.call} for lack of quota and patience ran out; continue "
            f"later with `bulkup resume` ({says})"
        )
    if error.call == "RunQuery":
        return QueryError(f"the server cannot run the query ({code.name}): {says}")
    return TargetError(f"{error.call} failed for good ({code.name}): {says}")


@contextmanager
def explained(rpc: Rpc) -> Iterator[None]:
    """Turn what a call ended with into a sentence: a TargetError."""
    try:
        yield
    except CallError as error:
        raise explain(
            error, address=rpc.address, project=rpc.project, contacted=rpc.retry_policy.contacted
        ) from error
