"""One request and its answer, retried while that can help."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError
from tenacity import RetryCallState

from bulkup.core import stop
from bulkup.datastore import greenlets
from bulkup.datastore.call_error import CallError
from bulkup.datastore.retry import ATTEMPT_TIMEOUT_S as ATTEMPT_TIMEOUT_S
from bulkup.datastore.retry import RetryPolicy, retrying

R = TypeVar("R")

AnsweredCall = Callable[[str, int, float, float, int, int, str], None]
"""Takes name, shard, when it was sent and answered, entities, attempt number, error (or "")."""

TICK_S = 0.5
"""The longest wait before the run can show progress and react to signals."""


class Connection(Protocol):
    """What a call needs from its `Rpc`."""

    retry_policy: RetryPolicy
    contacted: bool
    outage_s: float
    heard_at: float
    arrived: threading.Event
    monotonic: Callable[[], float]
    on_tick: Callable[[], None]
    on_retry: Callable[[CallError, int, float, float], None]
    on_answer: AnsweredCall | None
    methods: Mapping[str, Any]
    """gRPC methods by name; each takes and returns bytes."""
    metadata: Sequence[tuple[str, str]]

    def nap(self, seconds: float) -> None: ...

    def fell_silent(self, since: float) -> None: ...

    def refresh_credentials(self, since: float, error: CallError) -> None: ...


class Call(Generic[R]):
    """One request; every attempt sends the very same bytes.

    The constructor sends the first attempt. `result` waits for it, and retries if that can help.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        payload: bytes,
        parse: Callable[[bytes], R],
        before_resend: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.payload = payload
        self.maybe_applied_at: float | None = None
        """When an attempt last ended without saying whether it was applied."""
        self.attempts = 0
        self._doubtful = self._refused = 0
        self._spent_s = 0.0
        """Seconds spent on failed attempts and on the pauses after them. Excludes time in which
        nobody waited for the call because a handler was running."""
        self._was_silent = False
        """The last attempt got no answer: it timed out, or its channel was closed."""
        self._connection = connection
        self._before_resend = before_resend
        self._parse = parse
        self.answer_bytes = 0
        self.shard = 0
        """The shard that the call is for; 0 if none, and then `on_answer` is not called."""
        self.entities = 0
        """How many entities the call writes, or has read."""
        self._sent_at = self._answered_at = self._timeout_s = 0.0
        self._future: Any
        """The attempt that is in flight, or answered but not processed yet; otherwise None."""
        self._send()

    def _send(self) -> None:
        if stop.is_fork:
            stop.refuse_in_fork()
        if greenlets.connection_is_lost:
            raise CallError(self.name, grpc.StatusCode.UNAVAILABLE, "threads were replaced")
        connection = self._connection
        policy = connection.retry_policy
        self.attempts += 1
        self._answered_at = 0.0
        self._sent_at = connection.monotonic()
        self._timeout_s = (
            policy.first_attempt_s
            if self.attempts == 1
            else policy.attempt_s(self.attempts, policy.retry_for_s - self._spent_s)
        )
        self._future = connection.methods[self.name].future(
            self.payload, timeout=self._timeout_s, metadata=connection.metadata
        )
        self._future.add_done_callback(self._has_arrived)

    def _has_arrived(self, _: Any) -> None:
        # Runs on a gRPC thread, so do only what is safe without a lock of ours.
        self._answered_at = self._connection.monotonic()
        self._connection.arrived.set()

    @property
    def seconds(self) -> float:
        """How long the last attempt took, once it was answered."""
        return max(0.0, self._answered_at - self._sent_at)

    def again(self) -> Call[R]:
        """Send the same request once more, as a new call."""
        return Call(self._connection, self.name, self.payload, self._parse, self._before_resend)

    def done(self) -> bool:
        """Whether an answer has arrived (or an error that may need another attempt)."""
        return self._future is not None and bool(self._future.done())

    @property
    def is_in_flight(self) -> bool:
        """Whether an attempt is still unanswered."""
        return self._future is not None and not self._future.done()

    @property
    def has_failed(self) -> bool:
        """Whether the last attempt failed, so that `result` may wait. Ask only when `done`."""
        return self._future is not None and self._future.exception() is not None

    def cancel(self) -> None:
        if self._future is not None:
            self._future.cancel()

    def result(self) -> R:
        """Wait for the answer. Raises CallError once retrying cannot help any more."""
        try:
            if self._future is None:
                self._send_again()
            return self.first_answer()  # not in tenacity, whose objects would keep the answer alive
        except CallError as error:
            if not error.worth_another_try:
                raise
            failed: CallError | None = error

        def attempt() -> R:
            nonlocal failed
            if failed is not None:
                first, failed = failed, None
                raise first
            self._send_again()
            return self.first_answer()

        policy = retrying(
            longest_s=self._longest_pause_s,
            after=self._count_attempt,
            stop=self._gives_up,
            sleep=self._pause,
            before_sleep=self._about_to_sleep,
        )
        answer: R = policy(attempt)
        return answer

    def _send_again(self) -> None:
        if self._before_resend is not None:
            self._before_resend()
        self._send()

    def first_answer(self) -> R:
        """Wait for the answer to the attempt that was sent, and never retry.

        Raises CallError.
        """
        connection = self._connection
        future, self._future = self._future, None
        while True:
            try:
                serialized: bytes = future.result(timeout=TICK_S)
            except grpc.FutureTimeoutError:
                connection.on_tick()
                if connection.retry_policy.is_exhausted():
                    future.cancel()
                    self.maybe_applied_at = connection.monotonic()
                    raise CallError(
                        self.name, grpc.StatusCode.DEADLINE_EXCEEDED, "asked to stop"
                    ) from None
            except grpc.RpcError as error:
                failed = self._noted(error)
                self._tell(failed.code_name)
                raise failed from None
            except grpc.FutureCancelledError:
                self.maybe_applied_at = connection.monotonic()
                raise CallError(self.name, grpc.StatusCode.CANCELLED, "cancelled here") from None
            else:
                connection.contacted = True
                connection.outage_s = 0.0
                connection.heard_at = self._answered_at
                self.answer_bytes = len(serialized)
                # Parse here: gRPC's thread would compete with this one for the interpreter.
                try:
                    answer = self._parse(serialized)
                    self._tell(answer=answer)
                    return answer
                except DecodeError as error:
                    self._doubtful += 1
                    raise CallError(
                        self.name, grpc.StatusCode.INTERNAL, "the answer is not a Datastore's"
                    ) from error

    def _tell(self, error: str = "", answer: Any = None) -> None:
        if not self.shard or (on_answer := self._connection.on_answer) is None:
            return
        if self.name == "RunQuery" and answer is not None:
            self.entities = len(answer.batch.entity_results)
        on_answer(
            self.name, self.shard, self._sent_at, self._answered_at, self.entities,
            self.attempts, error,
        )  # fmt: skip

    def _noted(self, error: Any) -> CallError:
        failed = CallError(self.name, error.code(), error.details() or "", len(self.payload))
        self._doubtful += failed.is_doubtful
        self._refused += failed.is_unauthenticated
        if not failed.worth_another_try:
            self._connection.outage_s = 0.0  # the server refused, so it is available
        if failed.maybe_applied:
            self.maybe_applied_at = self._connection.monotonic()
        return failed

    # --- how long to retry ---

    def _count_attempt(self, state: RetryCallState) -> None:
        connection, error = self._connection, _error_of(state)
        spent_s = max(0.0, (self._answered_at or connection.monotonic()) - self._sent_at)
        self._spend(spent_s)
        self._was_silent = error.is_channel_closed
        if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and spent_s >= 0.99 * self._timeout_s:
            connection.fell_silent(self._sent_at)
            self._was_silent = True
        if error.is_unauthenticated and connection.contacted:
            connection.refresh_credentials(self._sent_at, error)

    def _spend(self, seconds: float) -> None:
        self._spent_s += seconds
        self._connection.outage_s += seconds

    def _left_s(self, state: RetryCallState) -> float:
        connection = self._connection
        limit_s = connection.retry_policy.limit_s(_error_of(state), contacted=connection.contacted)
        return limit_s - max(self._spent_s, connection.outage_s)

    def _longest_pause_s(self, state: RetryCallState) -> float:
        # After silence the next attempt usually uses a new connection, which needs no backoff.
        return 0.0 if self._was_silent else self._left_s(state)

    def _gives_up(self, state: RetryCallState) -> bool:
        connection = self._connection
        policy = connection.retry_policy
        return policy.is_out_of_time(state.upcoming_sleep) or policy.gives_up(
            _error_of(state),
            left_s=self._left_s(state),
            doubtful=self._doubtful,
            refused=self._refused,
            contacted=connection.contacted,
        )

    def _about_to_sleep(self, state: RetryCallState) -> None:
        wait_s = state.upcoming_sleep
        self._connection.on_retry(
            _error_of(state), state.attempt_number, wait_s, self._left_s(state)
        )

    def _pause(self, seconds: float) -> None:
        began = self._connection.monotonic()
        self._connection.nap(seconds)
        self._spend(self._connection.monotonic() - began)


def _error_of(state: RetryCallState) -> CallError:
    assert state.outcome is not None
    error = state.outcome.exception()
    assert isinstance(error, CallError)
    return error
