"""How long failed calls are retried, and how long to wait between attempts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tenacity
from grpc import StatusCode
from tenacity import RetryCallState, Retrying

from bulkup.datastore.call_error import CallError

FIRST_CONTACT_S = 15.0
"""How long to retry an address that has answered only with errors: a wrong one must not cost ten
minutes."""

FIRST_ANSWER_S = 120.0
"""How long to retry a server that accepts calls but has not answered one yet: for example an
emulator that is still busy with a killed run's large kind."""

MAX_DOUBTFUL_TRIES = 4
"""INTERNAL and UNKNOWN may pass or may be final (an emulator says UNKNOWN to an operator it does
not know). The service's documentation advises against retrying them for long."""

AFTER_STOP_S = 20.0
"""How long the calls in flight, all together, may take to finish once the user has asked to stop.
Below the 30 s that Kubernetes and Cloud Run leave between SIGTERM and SIGKILL."""

_BACKOFF = tenacity.wait_exponential_jitter(initial=1, max=60, jitter=1)
_RETRYABLE = tenacity.retry_if_exception(
    lambda error: isinstance(error, CallError) and error.worth_another_try
)


def _never_asked() -> float:
    return -1.0


@dataclass(frozen=True)
class RetryPolicy:
    """How long calls are retried. All calls of a run share one."""

    retry_for_s: float = 600.0
    stopping_s: Callable[[], float] = _never_asked
    """Seconds since the user asked to stop; negative: not asked."""

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

    def is_over(self, state: RetryCallState, *, doubtful: int, contacted: bool) -> bool:
        """Whether to give up now. `doubtful`: how many doubtful answers the call has had."""
        error = state.outcome.exception() if state.outcome else None
        if doubtful >= MAX_DOUBTFUL_TRIES:
            return True
        if isinstance(error, CallError) and error.lacks_credentials and not contacted:
            return True
        if self.is_asked_to_stop() and self.stopping_s() + state.upcoming_sleep > AFTER_STOP_S:
            return True
        ends_at_s = (state.seconds_since_start or 0.0) + state.upcoming_sleep
        return ends_at_s > self.limit_s(error, contacted=contacted)


def retrying(
    *,
    stop: Callable[[RetryCallState], bool],
    sleep: Callable[[float], None],
    before_sleep: Callable[[RetryCallState], None],
) -> Retrying:
    """Retry with exponential backoff and jitter, 1 s to 60 s; raise the last error."""
    return Retrying(
        retry=_RETRYABLE,
        wait=_BACKOFF,
        stop=stop,
        sleep=sleep,
        before_sleep=before_sleep,
        reraise=True,
    )
