"""How long failed calls are retried, and how long to wait between attempts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import tenacity
from grpc import StatusCode
from tenacity import RetryCallState, Retrying

from bulkup.core.errors import BulkupError
from bulkup.datastore.call_error import CallError

ATTEMPT_TIMEOUT_S = 60.0
"""Timeout of one attempt of a call; the official client's default."""

MIN_ATTEMPT_S = 2.0
"""A busy server answers within this time, so the first attempt gets at least as much, however short
`--retry-for` is."""

FIRST_ATTEMPT_SHARE = 0.25
"""The first attempt's share of the time to retry for. The next attempt, on a new connection, gets
twice as much, so there is one even if the first ended in silence."""

LAST_ATTEMPT_SHARE = 0.05
"""How long the attempt at the very end of the time to retry for may run over it, as a share of that
time."""

FAREWELL_SHARE = 0.03
"""How long one last call may take after the time to retry for is used up, as a share of that
time."""

FIRST_CONTACT_S = 15.0
"""How long to retry an address that has answered only with errors: a wrong address must not cost
ten minutes."""

FIRST_ANSWER_S = 120.0
"""How long to retry a server that accepts calls but has not answered one yet: for example an
emulator that is still busy with a killed run's large kind."""

MAX_DOUBTFUL_TRIES = 4
"""How often to try a call that gets INTERNAL or UNKNOWN. These may be transient or final (an
emulator answers UNKNOWN to an operator that it does not know). The service's documentation advises
against retrying them for long."""

MAX_REFRESHES = 3
"""How often to get a new token after a refusal. In a run that works, a token may be refused once,
because it was just rotated or revoked. Then either the next one is accepted, or none is."""

AFTER_STOP_S = 20.0
"""How long the calls in flight, all together, may take to finish once the user has asked to stop.
Below the 30 s that Kubernetes and Cloud Run leave between SIGTERM and SIGKILL."""

_BACKOFF = tenacity.wait_exponential_jitter(initial=1, max=60, jitter=1)
_RETRYABLE = tenacity.retry_if_exception(
    lambda error: isinstance(error, CallError) and error.worth_another_try
)


def _never_asked() -> float:
    return -1.0


def _by_nobody(_: str) -> None:
    return None


@dataclass(frozen=True)
class RetryPolicy:
    """How long calls are retried. All calls of a run share one."""

    retry_for_s: float = 600.0
    stopping_s: Callable[[], float] = _never_asked
    """Seconds since the user asked to stop; negative: not asked."""
    stopped_by: Callable[[str], BulkupError | None] = _by_nobody
    """Takes a phrase that says when the stop request took effect, and returns the error that
    reports it; None if there was no request."""
    longest_attempt_s: float = ATTEMPT_TIMEOUT_S

    def limit_s(self, error: BaseException | None, *, contacted: bool) -> float:
        """How long to retry after this error. `contacted`: the server has answered a call."""
        if contacted:
            return self.retry_for_s
        slow = isinstance(error, CallError) and error.code is StatusCode.DEADLINE_EXCEEDED
        return min(FIRST_ANSWER_S if slow else FIRST_CONTACT_S, self.retry_for_s)

    def is_asked_to_stop(self) -> bool:
        return self.stopping_s() >= 0

    def is_exhausted(self) -> bool:
        """The user has waited long enough for the run to stop, so wait for no call any longer."""
        return self.stopping_s() > AFTER_STOP_S

    @cached_property
    def first_attempt_s(self) -> float:
        """The timeout of a call's first attempt."""
        return self.attempt_s(1, self.retry_for_s)

    def attempt_s(self, number: int, left_s: float) -> float:
        """The timeout of an attempt, numbered from 1, when `left_s` of the time is left."""
        longest = self.longest_attempt_s
        if not self.retry_for_s:
            return longest
        share_s: float = self.retry_for_s * FIRST_ATTEMPT_SHARE * 2 ** min(number - 1, 9)
        wanted_s = min(longest, max(share_s, MIN_ATTEMPT_S))
        if number == 1:
            return wanted_s
        return min(wanted_s, max(left_s, self.retry_for_s * LAST_ATTEMPT_SHARE))

    def once(self) -> RetryPolicy:
        """For a last call to a server that may be unavailable: one attempt, and a short one."""
        farewell_s = max(1.0, self.retry_for_s * FAREWELL_SHARE)
        return replace(self, retry_for_s=0.0, longest_attempt_s=min(farewell_s, ATTEMPT_TIMEOUT_S))

    def gives_up(
        self, error: CallError, *, left_s: float, doubtful: int, refused: int, contacted: bool
    ) -> bool:
        """Whether to stop retrying. `doubtful`: how many doubtful answers the call has had;
        `refused`: how often its token was refused."""
        if doubtful >= MAX_DOUBTFUL_TRIES or refused > MAX_REFRESHES or left_s <= 0:
            return True
        if contacted:
            return False
        is_final = error.is_http_answer and error.code is not StatusCode.UNAVAILABLE
        return error.lacks_credentials or error.is_unauthenticated or is_final

    def is_out_of_time(self, wait_s: float) -> bool:
        """Whether the user has asked to stop, and a pause would last longer than the time left."""
        return self.is_asked_to_stop() and self.stopping_s() + wait_s > AFTER_STOP_S


def retrying(
    *,
    longest_s: Callable[[RetryCallState], float],
    after: Callable[[RetryCallState], None],
    stop: Callable[[RetryCallState], bool],
    sleep: Callable[[float], None],
    before_sleep: Callable[[RetryCallState], None],
) -> Retrying:
    """Retry with exponential backoff and jitter, 1 s to 60 s; raise the last error.

    `after` is called first when an attempt has failed. `longest_s` limits the next pause, so that
    the last attempt is made at the end of the time to retry for.
    """
    return Retrying(
        retry=_RETRYABLE,
        after=after,
        wait=lambda state: min(_BACKOFF(state), max(0.0, longest_s(state))),
        stop=stop,
        sleep=sleep,
        before_sleep=before_sleep,
        reraise=True,
    )
