"""Commits that are refused as conflicts, and how to tell a conflict from any other refusal.

FAILED_PRECONDITION, NOT_FOUND and ALREADY_EXISTS say that a guard refused: an entity has another
version than the one that was read, is gone, or exists already. A server says the same when the
database is read-only, suspended or deleted. So a status does not prove a conflict; a changed entity
does. If nothing has changed, the commit is retried a few times, and then the server's reason ends
the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from bulkup.datastore.call import Call
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_bytes
from bulkup.datastore.messages import CommitRequest, Pb

PAUSES_S = (1.0, 2.0, 4.0)
"""Pauses before each retry of a commit that was refused although nothing had changed."""


class Server(Protocol):
    """What is needed from an `Rpc`."""

    on_retry: Callable[[CallError, int, float, float], None]

    def lookup(self, keys: list[Pb]) -> dict[bytes, Pb]: ...

    def nap(self, seconds: float) -> None: ...

    @property
    def sends_once(self) -> bool: ...


class Refusals:
    """The unexplained refusals of one piece of work."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._count = 0

    def pause(self, error: CallError) -> None:
        """Wait before the next try. Raises the error if no more tries are left."""
        if self._count == len(PAUSES_S) or self._server.sends_once:
            error.unexplained = True
            raise error
        pause_s = PAUSES_S[self._count]
        self._count += 1
        self._server.on_retry(error, self._count, pause_s, sum(PAUSES_S[self._count - 1 :]))
        self._server.nap(pause_s)


def commit_answer(server: Server, call: Call[Any]) -> Pb:
    """The answer to a commit, which is sent again if it is refused although nothing has changed.

    Raises CallError. A conflict means that something has changed, unless it is marked
    `unexplained`.
    """
    refusals = Refusals(server)
    while True:
        try:
            return call.result()
        except CallError as error:
            if not error.claims_conflict or has_moved(server, call.payload):
                raise
            refusals.pause(error)
            call = call.again()


def has_moved(server: Server, commit: bytes) -> bool:
    """Whether what a serialized CommitRequest requires of its entities no longer holds.

    Raises CallError.
    """
    required: dict[bytes, tuple[Pb, int | None]] = {}
    for mutation in CommitRequest.FromString(commit).mutations:
        operation = mutation.WhichOneof("operation")
        message = getattr(mutation, operation)
        key = message if operation == "delete" else message.key
        if operation == "insert":
            required[key_bytes(key)] = key, 0
        elif mutation.base_version:
            required[key_bytes(key)] = key, mutation.base_version
        elif operation == "update":
            required[key_bytes(key)] = key, None  # any version
    found = server.lookup([key for key, _ in required.values()])
    for id_, (_, version) in required.items():
        there = found[id_].version if id_ in found else 0
        if not there if version is None else there != version:
            return True
    return False
