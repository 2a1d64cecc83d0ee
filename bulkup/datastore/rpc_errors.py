"""What a failed call means to a user: one sentence that ends with the next thing to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from grpc import StatusCode

from bulkup.core.errors import BulkupError, QueryError, TargetError
from bulkup.datastore.call_error import CallError

if TYPE_CHECKING:
    from bulkup.datastore.rpc import Rpc

NO_CREDENTIALS = (
    "no usable Google credentials: run `gcloud auth application-default login`, set "
    "GOOGLE_APPLICATION_CREDENTIALS, or point DATASTORE_EMULATOR_HOST at an emulator"
)


def explain(error: CallError, *, address: str, project: str, contacted: bool) -> BulkupError:
    """Turn the error of a call into one that a user can act on.

    `contacted`: the server has answered a call before.
    """
    code, details = error.code, error.details
    answer = f"the server says: {details}" if details else "the server gives no reason"
    if error.unexplained:
        return TargetError(
            f"the server refuses to write ({code.name}) although nothing has changed since it was "
            f"read; {answer}. Once that is resolved, run the command again"
        )
    if error.lacks_credentials or code is StatusCode.UNAUTHENTICATED:
        return TargetError(NO_CREDENTIALS, details=details)
    if code in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED):
        return _no_answer(error, address, contacted)
    if error.call != "Commit" and error.needs_index:
        return QueryError(
            "the query needs a composite index that does not exist; create the one below "
            "(`gcloud datastore indexes create index.yaml`), wait until it is built, and run again",
            details=details,
        )
    if code is StatusCode.PERMISSION_DENIED:
        return TargetError(
            f"{error.call} is not permitted in project {project} ({answer}); grant "
            "roles/datastore.user to your account, or choose another project with --project"
        )
    if code is StatusCode.NOT_FOUND:
        return TargetError(
            f"project {project} has no such Datastore database ({answer}); check --project and "
            "--database"
        )
    if code is StatusCode.RESOURCE_EXHAUSTED:
        return TargetError(
            f"{error.call} exceeds a quota of project {project}, and retrying did not help "
            f"({answer}); continue later with `bulkup resume`"
        )
    if error.call == "RunQuery":
        return QueryError(f"the server cannot run the query ({code.name}); {answer}")
    return TargetError(f"{error.call} failed ({code.name}); {answer}")


def _no_answer(error: CallError, address: str, contacted: bool) -> TargetError:
    if contacted:
        return TargetError(
            f"the Datastore at {address} stopped answering ({error.code.name}); continue with "
            "`bulkup resume` when it is back, or wait longer with --retry-for"
        )
    if "connection refused" in error.details.lower():
        reason = "connection refused"
    else:
        reason = error.details if error.call == "Connect" else error.code.name
    if address.endswith(".googleapis.com"):
        advice = "check the network connection, and run again"
    else:
        advice = "start the emulator, or unset DATASTORE_EMULATOR_HOST"
    return TargetError(
        f"no Datastore answered at {address} ({reason}); {advice}",
        details="" if reason == error.details else error.details,
    )


@contextmanager
def explained(rpc: Rpc) -> Iterator[None]:
    """Turn a CallError into one that a user can act on."""
    try:
        yield
    except CallError as error:
        raise explain(
            error, address=rpc.address, project=rpc.project, contacted=rpc.contacted
        ) from error
