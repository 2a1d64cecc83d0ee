"""Reading the past: which moments a server can read, and the errors for those that it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from grpc import StatusCode

from bulkup.core.errors import TargetError, UsageError
from bulkup.core.model import TargetInfo
from bulkup.core.moment import MICROS, Moment, shown
from bulkup.datastore.call_error import CallError
from bulkup.datastore.messages import QueryPb
from bulkup.datastore.rpc import Rpc

REACH = (
    "the past hour can always be read, and the past seven days at whole minutes (09:00:00Z) where "
    "point-in-time recovery is on"
)

_REFUSALS = (
    StatusCode.INVALID_ARGUMENT,
    StatusCode.FAILED_PRECONDITION,
    StatusCode.OUT_OF_RANGE,
    StatusCode.UNIMPLEMENTED,
)


def read_at(rpc: Rpc, moment: Moment, target: TargetInfo) -> int | None:
    """Make a connection read as of a moment. Returns it in microseconds of Unix time; None for now.

    Raises UsageError for a time in the future or too long ago, TargetError if the server cannot
    read that moment or ignores the requested time, CallError.
    """
    probe = QueryPb()
    probe.projection.add().property.name = "__key__"
    probe.limit.value = 1
    rpc.run_query(probe, target.namespace).result()  # also brings the server's time
    now = rpc.server_time.now()
    micros = moment.micros(now)
    if micros is None:
        return None
    if micros > (now + 1) * MICROS:
        raise UsageError(
            f"{shown(micros)} is in the future: on {target} it is {shown(int(now) * MICROS)}; give "
            "a time of the past"
        )
    if micros <= 0:
        raise UsageError(f"{shown(micros)} is too long ago; {REACH}")
    rpc.read_at(micros)
    with explained_past(target, micros):
        read_time = rpc.run_query(probe, target.namespace).result().batch.read_time
    if not read_time.seconds or read_time.ToMicroseconds() > micros:
        raise TargetError(
            f"{target} cannot read the past: the server ignores the time it is asked for, and "
            "answers with the present; use a server that keeps its past (Datastore itself, the "
            "Firestore emulator, bulkup's embedded Datastore)"
        )
    return micros


@contextmanager
def explained_past(target: TargetInfo, micros: int | None) -> Iterator[None]:
    """Turn the refusal of a read time into an explanation. Raises TargetError."""
    try:
        yield
    except CallError as error:
        if micros is None or error.code not in _REFUSALS:
            raise
        raise TargetError(
            f"{target} cannot be read as of {shown(micros)} (the server says: {error.details}); "
            f"{REACH}"
        ) from error
