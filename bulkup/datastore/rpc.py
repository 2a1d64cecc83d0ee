"""The calls bulkup makes, over a channel of its own, with raw protobuf messages.

The endpoint, the credentials and the routing headers are those that
`google.cloud.datastore.Client` would use. What differs: no limit on the size of an answer (the
official channel stops at 4 MiB, which a page of 300 entities of 20 KB exceeds), no proto-plus,
and futures, so that one thread keeps a page and several commits in flight.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlparse

# Before grpc is imported: its C core logs to stderr in the middle of a progress bar.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from google.cloud._helpers import make_secure_channel
from google.cloud._http import DEFAULT_USER_AGENT
from google.cloud.datastore import Client as OfficialClient
from google.cloud.datastore_v1.types import datastore as types
from google.protobuf.message import DecodeError
from tenacity import RetryCallState

from bulkup.datastore.pages import read_page
from bulkup.datastore.raw_requests import CommitRequest, commit_request
from bulkup.datastore.raw_requests import Mutation as Mutation
from bulkup.datastore.retry import FIRST_CONTACT_S, CallError, RetryPolicy, retrying

R = TypeVar("R")

RunQueryRequest: Any = types.RunQueryRequest.pb()
RunQueryResponse: Any = types.RunQueryResponse.pb()
RunAggregationQueryRequest: Any = types.RunAggregationQueryRequest.pb()
RunAggregationQueryResponse: Any = types.RunAggregationQueryResponse.pb()
LookupRequest: Any = types.LookupRequest.pb()
LookupResponse: Any = types.LookupResponse.pb()
CommitResponse: Any = types.CommitResponse.pb()
AllocateIdsRequest: Any = types.AllocateIdsRequest.pb()
AllocateIdsResponse: Any = types.AllocateIdsResponse.pb()

ATTEMPT_TIMEOUT_S = 60.0
"""One attempt of one call; the official client's default."""

TICK_S = 0.5
"""How long a wait goes on before the run may look around (progress, signals)."""

MAX_WATCH_S = 1.0
"""For gRPC to stop looking at a channel's state: it looks every 0.2 s (`_poll_connectivity`)."""

MAX_LOOKUP_KEYS = 1000
"""The service's limit for one Lookup."""


_ANSWERS: dict[str, Any] = {
    "RunQuery": RunQueryResponse,
    "RunAggregationQuery": RunAggregationQueryResponse,
    "Lookup": LookupResponse,
    "Commit": CommitResponse,
    "AllocateIds": AllocateIdsResponse,
}


class Call(Generic[R]):
    """One request, sent as often as it needs; every attempt sends the very same bytes.

    The first attempt is under way when the object exists; `result` waits for it and, where that
    helps, sends again.
    """

    def __init__(
        self,
        rpc: Rpc,
        name: str,
        payload: bytes,
        before_resend: Callable[[], None] | None = None,
        parse: Callable[[bytes], R] | None = None,
    ) -> None:
        self.name = name
        self.payload = payload
        self.maybe_applied_at: float | None = None
        """When an attempt was last left without an answer that says what became of it."""
        self._doubtful = 0
        self._rpc = rpc
        self._before_resend = before_resend
        self._parse: Callable[[bytes], R] = parse or _ANSWERS[name].FromString
        self.attempts = 0
        self.answer_bytes = 0
        self._sent_at = self._answered_at = 0.0
        self._future: Any = self._send()

    def _send(self) -> Any:
        self.attempts += 1
        self._sent_at = self._rpc.monotonic()
        future = self._rpc.send(self.name, self.payload, ATTEMPT_TIMEOUT_S)
        future.add_done_callback(self._has_arrived)
        return future

    def _has_arrived(self, _: Any) -> None:
        # On a thread of gRPC: only what needs no lock.
        self._answered_at = self._rpc.monotonic()
        self._rpc.arrived.set()

    @property
    def seconds(self) -> float:
        """What the last attempt took, once it was answered."""
        return max(0.0, self._answered_at - self._sent_at)

    def done(self) -> bool:
        """An answer is there (or an error that may need another attempt)."""
        return self._future is not None and bool(self._future.done())

    @property
    def is_under_way(self) -> bool:
        """An attempt has not been answered."""
        return self._future is not None and not self._future.done()

    @property
    def has_failed(self) -> bool:
        """The last attempt: `result` may have to send again, and wait. Only when `done`."""
        return self._future is not None and self._future.exception() is not None

    def cancel(self) -> None:
        if self._future is not None:
            self._future.cancel()

    def first_answer(self) -> R:
        """The answer of the first attempt, waited for if need be; it is never sent again.

        Raises CallError.
        """
        future, self._future = self._future, None
        return self._answer(future)

    def result(self) -> R:
        """Wait for the answer; raises CallError when there is none and no hope of one."""
        try:
            return self._attempt()  # without the policy, whose objects would hold the answer
        except CallError as error:
            if not error.worth_another_try:
                raise
            failed: CallError | None = error

        def attempt() -> R:
            nonlocal failed
            if failed is not None:
                first, failed = failed, None
                raise first
            return self._attempt()

        policy = retrying(
            stop=lambda state: self._rpc.retry_policy.is_over(state, self._doubtful),
            sleep=self._rpc.nap,
            before_sleep=self._about_to_sleep,
        )
        answer: R = policy(attempt)
        return answer

    def _attempt(self) -> R:
        future, self._future = self._future, None
        if future is None:
            if self._before_resend is not None:
                self._before_resend()
            future = self._send()
        return self._answer(future)

    def _answer(self, future: Any) -> R:
        while True:
            try:
                serialized: bytes = future.result(timeout=TICK_S)
            except grpc.FutureTimeoutError:
                self._rpc.on_tick()
                if self._rpc.retry_policy.is_exhausted():
                    future.cancel()
                    self.maybe_applied_at = self._rpc.monotonic()
                    raise CallError(
                        self.name, grpc.StatusCode.DEADLINE_EXCEEDED, "asked to stop"
                    ) from None
            except grpc.RpcError as error:
                failed = CallError(
                    self.name, error.code(), error.details() or "", len(self.payload)
                )
                self._doubtful += failed.is_doubtful
                if failed.maybe_applied:
                    self.maybe_applied_at = self._rpc.monotonic()
                raise failed from None
            except grpc.FutureCancelledError:
                self.maybe_applied_at = self._rpc.monotonic()
                raise CallError(self.name, grpc.StatusCode.CANCELLED, "cancelled here") from None
            else:
                self._rpc.retry_policy.contacted = True
                self.answer_bytes = len(serialized)
                # Here and not on gRPC's thread, which would fight this one for the interpreter.
                return self._parsed(serialized)

    def _parsed(self, serialized: bytes) -> R:
        try:
            return self._parse(serialized)
        except DecodeError as error:
            code, what = grpc.StatusCode.INTERNAL, "the answer is not one of a Datastore"
            raise CallError(self.name, code, what) from error

    def _about_to_sleep(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        error = state.outcome.exception()
        assert isinstance(error, CallError)
        left = self._rpc.retry_policy.limit_s(error) - (state.seconds_since_start or 0.0)
        self._rpc.on_retry(error, state.attempt_number, state.upcoming_sleep, left)


class Rpc:
    """A connection to one database.

    `on_tick` is called at least every TICK_S while a call or a pause is waited for, and may raise
    to end the wait. `on_retry(error, attempt, wait_s, left_s)` is called before each pause.
    """

    def __init__(
        self,
        client: OfficialClient,
        *,
        retry_policy: RetryPolicy | None = None,
        sleep: Callable[[float], None] | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        import time

        self.project: str = client.project
        self.database: str = client.database or ""
        self.retry_policy = retry_policy or RetryPolicy()
        self.on_tick: Callable[[], None] = lambda: None
        self.on_retry: Callable[[CallError, int, float, float], None] = lambda *_: None
        self.monotonic = monotonic or time.monotonic
        self._sleep = sleep or time.sleep
        url = urlparse(client.base_url)
        self.address = url.netloc
        options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
        if url.scheme == "https":
            self._channel = make_secure_channel(
                client._credentials, DEFAULT_USER_AGENT, url.netloc, options
            )
        else:
            self._channel = grpc.insecure_channel(url.netloc, options=options)
        routing = f"project_id={quote(self.project, safe='')}"
        if self.database:
            routing += f"&database_id={quote(self.database, safe='')}"
        self._metadata = (("x-goog-request-params", routing),)
        head = self._request(CommitRequest)
        head.mode = CommitRequest.TRANSACTIONAL
        head.single_use_transaction.read_write.SetInParent()
        self._commit_head: bytes = head.SerializeToString()
        self._watching: set[threading.Thread] = set()
        self.arrived = threading.Event()
        """Set whenever a call has been answered."""
        self._methods = {
            name: self._channel.unary_unary(
                f"/google.datastore.v1.Datastore/{name}",
                request_serializer=None,
                response_deserializer=None,
            )
            for name in _ANSWERS
        }

    def connect(self) -> None:
        """Wait until a gRPC server has answered at the address. Raises CallError.

        A port that accepts and says nothing is told apart from a server that is busy: the latter
        shakes hands at once.
        """
        others = set(threading.enumerate())
        ready = grpc.channel_ready_future(self._channel)
        self._watching = set(threading.enumerate()) - others
        retry_policy = min(FIRST_CONTACT_S, self.retry_policy.retry_for_s)
        give_up = self.monotonic() + retry_policy
        try:
            while True:
                try:
                    ready.result(timeout=TICK_S)
                    return
                except grpc.FutureTimeoutError:
                    self.on_tick()
                    if self.monotonic() >= give_up:
                        raise CallError(
                            "Connect",
                            grpc.StatusCode.UNAVAILABLE,
                            f"no answer in {retry_policy:.0f} s",
                        ) from None
        finally:
            ready.cancel()

    def close(self) -> None:
        """End the calls under way and the connection.

        gRPC looks at a channel's state every 0.2 s for a while after `connect`, and its thread
        dies with a traceback when the channel is closed under it.
        """
        for thread in self._watching:
            thread.join(MAX_WATCH_S)
        self._channel.close()

    def send(self, name: str, payload: bytes, timeout: float) -> Any:
        return self._methods[name].future(payload, timeout=timeout, metadata=self._metadata)

    def wait(self, seconds: float = TICK_S) -> None:
        """Until a call is answered (since `arrived` was cleared), for TICK_S at most."""
        self.arrived.wait(min(seconds, TICK_S))
        self.on_tick()

    def nap(self, seconds: float) -> None:
        """Pause in slices, so that progress goes on; a stop request ends the pause it meets."""
        end = self.monotonic() + seconds
        stopping = self.retry_policy.is_asked_to_stop()
        while (left := end - self.monotonic()) > 0:
            self._sleep(min(left, TICK_S))
            self.on_tick()
            if self.retry_policy.is_asked_to_stop() and not stopping:
                return

    def _request(self, kind: Any) -> Any:
        return kind(project_id=self.project, database_id=self.database)

    def page(self, query: Any, namespace: str) -> Call[Any]:
        """The same as `run_query`, for a Page: of results whose values stay bytes."""
        return self.run_query(query, namespace, read_page)

    def run_query(
        self, query: Any, namespace: str, parse: Callable[[bytes], Any] | None = None
    ) -> Call[Any]:
        """Start a RunQuery of a raw Query message in a namespace."""
        request = self._request(RunQueryRequest)
        request.partition_id.project_id = self.project
        request.partition_id.database_id = self.database
        request.partition_id.namespace_id = namespace
        request.query.CopyFrom(query)
        return Call(self, "RunQuery", request.SerializeToString(), parse=parse)

    def count(self, query: Any, namespace: str) -> Call[Any]:
        """Start a COUNT of a query; `count_of` reads the answer."""
        request = self._request(RunAggregationQueryRequest)
        request.partition_id.project_id = self.project
        request.partition_id.database_id = self.database
        request.partition_id.namespace_id = namespace
        request.aggregation_query.nested_query.CopyFrom(query)
        request.aggregation_query.aggregations.add(alias="n").count.SetInParent()
        return Call(self, "RunAggregationQuery", request.SerializeToString())

    def commit(
        self, mutations: list[bytes], before_resend: Callable[[], None] | None = None
    ) -> Call[Any]:
        """Start a commit of serialized mutations: atomic, in a transaction of this call alone.

        `before_resend` may raise to keep it from being sent again.
        """
        return Call(self, "Commit", commit_request(self._commit_head, mutations), before_resend)

    def lookup(self, keys: Sequence[Any]) -> dict[bytes, Any]:
        """Read entities by their raw keys, strongly consistent; what is missing is left out.

        Gives EntityResult messages by the serialized key. Raises CallError.
        """
        found: dict[bytes, Any] = {}
        for start in range(0, len(keys), MAX_LOOKUP_KEYS):
            wanted = list(keys[start : start + MAX_LOOKUP_KEYS])
            while wanted:
                request = self._request(LookupRequest)
                request.keys.extend(wanted)
                answer = Call[Any](self, "Lookup", request.SerializeToString()).result()
                for result in answer.found:
                    found[result.entity.key.SerializeToString(deterministic=True)] = result
                wanted = list(answer.deferred)
        return found

    def allocate_ids(self, keys: Sequence[Any]) -> list[Any]:
        """Complete raw incomplete keys, in their order. Raises CallError."""
        request = self._request(AllocateIdsRequest)
        request.keys.extend(keys)
        return list(Call[Any](self, "AllocateIds", request.SerializeToString()).result().keys)


def count_of(answer: Any) -> int:
    """The number in the answer to `Wire.count`."""
    values = answer.batch.aggregation_results[0].aggregate_properties
    return int(values["n"].integer_value)
