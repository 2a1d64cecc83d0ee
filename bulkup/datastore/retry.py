"""Which failed calls are sent again, and how patiently.

The code of a failed call says two things: whether another try can help, and (for a commit)
whether the server may have applied it all the same. Sending the same bytes again is safe for
both: a read has no effect, and a commit of bulkup carries a marker that excludes its own copies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grpc
import tenacity
from tenacity import RetryCallState, Retrying

FIRST_CONTACT_S = 15.0
"""Patience with an address that never answered with anything but errors: a wrong one must not cost
ten minutes."""

FIRST_ANSWER_S = 120.0
"""Patience with a server that is there and slow to answer at first: an emulator that a killed run
has left busy with a large kind, say."""

MAX_DOUBTFUL_TRIES = 4
"""INTERNAL and UNKNOWN may pass or may be the answer for good (an emulator says UNKNOWN to an
operator it does not know); the service's documentation advises against retrying them for long."""

AFTER_STOP_S = 20.0
"""What is in flight may finish for so long once the user has asked to stop, all of it together.
Below the 30 s that Kubernetes and Cloud Run leave between SIGTERM and SIGKILL."""

_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}
_DOUBTFUL = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}

_NOT_APPLIED = {grpc.StatusCode.ABORTED, grpc.StatusCode.RESOURCE_EXHAUSTED}
"""Of the codes worth another try: the ones that say for certain that nothing was written."""

EMULATOR_MESSAGE_BYTES = 4 * 1024 * 1024
"""The emulators refuse larger requests; one of them by resetting the stream (CANCELLED)."""


class CallError(Exception):
    """A call that ended with a status other than OK. Not for users: `wire.explain` is."""

    def __init__(
        self, call: str, code: grpc.StatusCode, details: str, request_bytes: int = 0
    ) -> None:
        super().__init__(f"{call}: {code.name}: {details}")
        self.call = call
        self.code = code
        self.details = details
        self.request_bytes = request_bytes

    @property
    def too_large(self) -> bool:
        """The request, not the load, was the trouble; sending it again cannot help."""
        if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return "maximum size" in self.details or "larger than max" in self.details
        return self.code is grpc.StatusCode.CANCELLED and (
            self.request_bytes >= EMULATOR_MESSAGE_BYTES
        )

    @property
    def worth_another_try(self) -> bool:
        return (self.code in _PASSING or self.is_doubtful) and not self.too_large

    @property
    def is_doubtful(self) -> bool:
        """It may pass, or be the answer for good."""
        return self.code in _DOUBTFUL

    @property
    def lacks_credentials(self) -> bool:
        """UNAVAILABLE for gRPC: no token could be had (none at all, or not just now)."""
        return "metadata from plugin failed" in self.details

    @property
    def maybe_applied(self) -> bool:
        """For a commit: the server may have applied it, or may still do so."""
        return self.worth_another_try and self.code not in _NOT_APPLIED


@dataclass
class RetryPolicy:
    """How long a call is sent again. One object for all calls of a run."""

    retry_for_s: float = 600.0
    contacted: bool = False
    """The server answered at least one call."""
    stopping_s: Callable[[], float] = lambda: -1.0
    """Seconds since the user asked to stop; negative: not asked."""

    def limit_s(self, error: BaseException | None) -> float:
        if self.contacted:
            return self.retry_for_s
        slow = isinstance(error, CallError) and error.code is grpc.StatusCode.DEADLINE_EXCEEDED
        return min(FIRST_ANSWER_S if slow else FIRST_CONTACT_S, self.retry_for_s)

    def is_asked_to_stop(self) -> bool:
        return self.stopping_s() >= 0

    def is_exhausted(self) -> bool:
        """The user waits for the end; no call is worth waiting for any longer."""
        return self.stopping_s() > AFTER_STOP_S

    def is_over(self, state: RetryCallState, doubtful: int) -> bool:
        """Would the next wait end beyond the limit? `doubtful`: such answers so far."""
        error = state.outcome.exception() if state.outcome else None
        if doubtful >= MAX_DOUBTFUL_TRIES:
            return True
        if isinstance(error, CallError) and error.lacks_credentials and not self.contacted:
            return True
        if self.is_asked_to_stop() and self.stopping_s() + state.upcoming_sleep > AFTER_STOP_S:
            return True
        return (state.seconds_since_start or 0.0) + state.upcoming_sleep > self.limit_s(error)


def _worth_another_try(error: BaseException) -> bool:
    return isinstance(error, CallError) and error.worth_another_try


def retrying(
    *,
    stop: Callable[[RetryCallState], bool],
    sleep: Callable[[float], None],
    before_sleep: Callable[[RetryCallState], None],
) -> Retrying:
    """The policy of every call: exponential with jitter, 1 s to 60 s; the last error is raised."""
    return Retrying(
        retry=tenacity.retry_if_exception(_worth_another_try),
        wait=tenacity.wait_exponential_jitter(initial=1, max=60, jitter=1),
        stop=stop,
        sleep=sleep,
        before_sleep=before_sleep,
        reraise=True,
    )
