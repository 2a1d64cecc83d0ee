"""What a failed call means to a user: one sentence that ends with the next thing to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from grpc import StatusCode

from bulkup.core.errors import BulkupError, QueryError, TargetError
from bulkup.datastore.call_error import CallError
from bulkup.datastore.causes import Cause, cause_of, credentials_problem

if TYPE_CHECKING:
    from bulkup.datastore.rpc import Rpc


_NO_ANSWER = (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED)


def explained_error(rpc: Rpc, error: CallError) -> BulkupError:
    """`explain` an error of a call on this connection. If the call was given up because the user
    asked to stop, that is not an outage, so return a StopAskedError."""
    if error.worth_another_try:
        is_silent = error.code in _NO_ANSWER
        why = f"{rpc.address} did not answer" if is_silent else f"calls failed ({error.code_name})"
        if asked := rpc.retry_policy.stopped_by(f"while {why}"):
            return asked
    return explain(error, address=rpc.address, project=rpc.project, contacted=rpc.contacted)


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
    if error.lacks_credentials:
        return TargetError(credentials_problem(details), details=details)
    cause = cause_of(details, address) if _is_of_the_connection(error) else None
    if code in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED) or cause is not None:
        return _no_answer(error, cause, address, contacted)
    if error.is_unauthenticated:
        return TargetError(credentials_problem(details), details=details)
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
    if error.too_large:
        return TargetError(f"a message of {error.call} is larger than gRPC accepts ({answer})")
    if code is StatusCode.RESOURCE_EXHAUSTED:
        return TargetError(
            f"{error.call} exceeds a quota of project {project}, and retrying did not help "
            f"({answer}); continue later with `bulkup resume`"
        )
    if error.call == "RunQuery":
        return QueryError(f"the server cannot run the query ({code.name}); {answer}")
    return TargetError(f"{error.call} failed ({code.name}); {answer}")


def _is_of_the_connection(error: CallError) -> bool:
    """Whether the details come from gRPC. Those of a Datastore may contain the same words."""
    if error.is_http_answer:
        return True
    in_transit = error.code in (StatusCode.INTERNAL, StatusCode.UNKNOWN) and not error.is_doubtful
    return in_transit or error.code in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED)


def _no_answer(error: CallError, cause: Cause | None, address: str, contacted: bool) -> TargetError:
    known = cause is not None
    if contacted:
        problem = f"{error.code.name}: {cause.problem}" if cause else error.code.name
        advice = f"{cause.advice}; " if cause and cause.is_final else ""
        return TargetError(
            f"the Datastore at {address} stopped answering ({problem}); {advice}continue with "
            "`bulkup resume` when it is back, or wait longer with --retry-for",
            details=error.details if cause is None or cause.is_final else "",
        )
    if cause:
        problem = cause.problem
    else:
        problem = error.details if error.call == "Connect" else error.code.name
    if address.endswith(".googleapis.com") or (cause is not None and cause.is_final):
        advice = cause.advice if cause else "check the network connection, and run again"
    else:
        advice = "start the emulator, or unset DATASTORE_EMULATOR_HOST"
        if cause and cause.problem != "connection refused":
            advice = f"{cause.advice}; {advice}"
    return TargetError(
        f"no Datastore answered at {address} ({problem}); {advice}",
        details=error.details if known or problem != error.details else "",
    )


@contextmanager
def explained(rpc: Rpc) -> Iterator[None]:
    """Turn a CallError into the error that `explained_error` returns."""
    try:
        yield
    except CallError as error:
        raise explained_error(rpc, error) from error
