"""The calls bulkup makes, over a channel of its own, with raw protobuf messages.

Routing headers are those of `google.cloud.datastore.Client`. Unlike that client, this one does not
use proto-plus, and uses futures, so that one thread keeps a page and several commits in flight.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from google.cloud.datastore import Client as OfficialClient

from bulkup.core.clock import Clock
from bulkup.datastore.call import TICK_S, AnsweredCall, Call
from bulkup.datastore.call_error import CallError
from bulkup.datastore.channel import Channel
from bulkup.datastore.messages import (
    AllocateIdsRequest,
    AllocateIdsResponse,
    CommitRequest,
    LookupRequest,
    LookupResponse,
    MoreResults,
    Pb,
    RunAggregationQueryRequest,
    RunQueryRequest,
    RunQueryResponse,
)
from bulkup.datastore.meter import Meter
from bulkup.datastore.pages import read_page
from bulkup.datastore.raw_requests import commit_request
from bulkup.datastore.request_tags import tagged
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.server_time import ServerTime

MAX_LOOKUP_KEYS = 1000
"""The service's limit for one Lookup."""

_UNLIMITED = 1000
"""The limit assumed for a query without one when its answer is too large to receive."""


class Rpc(Channel):
    """A connection to one database.

    `on_retry(error, attempt, wait_s, left_s)` is called before each pause.
    """

    def __init__(
        self,
        client: OfficialClient,
        *,
        retry_policy: RetryPolicy | None = None,
        sleep: Callable[[float], None] | None = None,
        monotonic: Callable[[], float] | None = None,
        server_time: ServerTime | None = None,
    ) -> None:
        super().__init__(client, retry_policy or RetryPolicy(), monotonic or time.monotonic)
        self.project: str = client.project
        self.database: str = client.database or ""
        self.contacted = False
        """The server has answered at least one call."""
        self.outage_s = 0.0
        """Seconds spent on failed calls since the last one that was answered. It keeps a run that
        ends because of an outage from waiting as long again for each of its last calls."""
        self.on_retry: Callable[[CallError, int, float, float], None] = lambda *_: None
        self.on_answer: AnsweredCall | None = None
        """Called for each answer to a call of a shard."""
        self._sleep = sleep or time.sleep
        self.server_time = server_time or ServerTime(Clock().elapsed, Clock().unix)
        """Learned from lookups and queries, except those for pages."""
        self.arrived = threading.Event()
        """Set whenever a call has been answered."""
        routing = f"project_id={quote(self.project, safe='')}"
        if self.database:
            routing += f"&database_id={quote(self.database, safe='')}"
        self.metadata: Sequence[tuple[str, str]] = (("x-goog-request-params", routing),)
        self._database = {"project_id": self.project, "database_id": self.database}
        self._read_options: dict[str, Any] = {}
        self.meter = Meter()
        self.tag("")

    def tag(self, updater: str) -> None:
        """From now on, tag requests as made for this updater. A request that is sent again keeps
        its tag."""
        self._head: dict[str, Any] = {**self._database, **tagged(updater)}
        head = CommitRequest(**self._head, mode=CommitRequest.TRANSACTIONAL)
        head.single_use_transaction.read_write.SetInParent()
        self._commit_head: bytes = head.SerializeToString()

    def beside(self) -> Rpc:
        """Another connection to the same server, which another thread may use at the same time."""
        other = Rpc(
            self._client, retry_policy=self.retry_policy,
            sleep=self._sleep, monotonic=self.monotonic, server_time=self.server_time,
        )  # fmt: skip
        other.contacted = self.contacted
        other.meter = self.meter
        other._head, other._commit_head = self._head, self._commit_head
        other._read_options = self._read_options
        return other

    def read_at(self, micros: int) -> None:
        """From now on read what was stored at this time (Unix, in microseconds)."""
        time = {"seconds": micros // 1_000_000, "nanos": micros % 1_000_000 * 1000}
        self._read_options = {"read_options": {"read_time": time}}

    def retry_for(self, seconds: float) -> None:
        """From now on retry calls for this many seconds; 0: not at all."""
        self.retry_policy = replace(self.retry_policy, retry_for_s=seconds)
        self.outage_s = 0.0

    def try_once(self) -> None:
        """From now on send each call once, and do not wait long for its answer."""
        self.retry_policy = self.retry_policy.once()

    @property
    def sends_once(self) -> bool:
        """Calls are not retried."""
        return not self.retry_policy.retry_for_s

    def wait(self, seconds: float = TICK_S) -> None:
        """Wait until a call is answered (since `arrived` was cleared), but at most TICK_S."""
        if not self.arrived.wait(min(seconds, TICK_S)):
            self.on_tick()

    def nap(self, seconds: float) -> None:
        """Pause in slices, so that progress is shown meanwhile. A request to stop that arrives
        during the pause ends it."""
        end = self.monotonic() + seconds
        stopping = self.retry_policy.is_asked_to_stop()
        while (left := end - self.monotonic()) > 0:
            self._sleep(min(left, TICK_S))
            self.on_tick()
            if self.retry_policy.is_asked_to_stop() and not stopping:
                return

    def _partition(self, namespace: str) -> dict[str, Any]:
        """The fields of a request that say where its query is run, and as of what time."""
        partition = {**self._database, "namespace_id": namespace}
        return {**self._head, "partition_id": partition, **self._read_options}

    def page(self, query: Pb, namespace: str) -> Call[Pb]:
        """Start a RunQuery whose answer is a Page. The values in its results stay bytes."""
        request = RunQueryRequest(**self._partition(namespace), query=query)
        parse = self.meter.query(read_page, query)
        return Call(self, "RunQuery", request.SerializeToString(), parse)

    def run_query(self, query: Pb, namespace: str) -> Call[Pb]:
        """Start a RunQuery of a Query message in a namespace."""
        request = RunQueryRequest(**self._partition(namespace), query=query)
        parse = self.meter.query(self._query_answer, query)
        return Call(self, "RunQuery", request.SerializeToString(), parse)

    def _query_answer(self, serialized: bytes) -> Pb:
        answer = RunQueryResponse.FromString(serialized)
        self._learn(answer.batch.read_time)
        return answer

    def _learn(self, read_time: Any) -> None:
        if not self._read_options:  # otherwise it is a time in the past
            self.server_time.learn(read_time)

    def results(self, query: Pb, namespace: str) -> Iterator[Pb]:
        """All EntityResult messages of a query, page by page; moves the query's start cursor.

        The first page is requested at once, before the first result is taken. The query's limit
        applies to each page. Raises CallError.
        """
        return self.results_from(self.run_query(query, namespace), query, namespace)

    def results_from(self, call: Call[Pb], query: Pb, namespace: str) -> Iterator[Pb]:
        """Like `results`, from a first page that was requested already."""
        while True:
            try:
                batch = call.result().batch
            except CallError as error:
                fewer = error.fewer(query.limit.value or _UNLIMITED)
                if not fewer:
                    raise
                query.limit.value = fewer
                call = self.run_query(query, namespace)
                continue
            yield from batch.entity_results
            # Only an empty page ends every query: one emulator never says NO_MORE_RESULTS.
            if not batch.entity_results or batch.more_results == MoreResults.NO_MORE_RESULTS:
                return
            query.start_cursor = batch.end_cursor
            call = self.run_query(query, namespace)

    def count(self, query: Pb, namespace: str) -> Call[Pb]:
        """Start a COUNT of a query; `count_of` reads the answer."""
        request = RunAggregationQueryRequest(**self._partition(namespace))
        request.aggregation_query.nested_query.CopyFrom(query)
        request.aggregation_query.aggregations.add(alias="n").count.SetInParent()
        payload = request.SerializeToString()
        return Call(self, "RunAggregationQuery", payload, self.meter.count)

    def commit(
        self, mutations: list[bytes], before_resend: Callable[[], None] | None = None
    ) -> Call[Pb]:
        """Start a commit of serialized mutations, atomic, in a transaction of its own.

        `before_resend` may raise to prevent another attempt.
        """
        payload = commit_request(self._commit_head, mutations)
        return Call(self, "Commit", payload, self.meter.commit(mutations), before_resend)

    def lookup(self, keys: Sequence[Pb]) -> dict[bytes, Pb]:
        """Read entities by their Key messages, strongly consistent. Raises CallError.

        Returns EntityResult messages by serialized key; missing entities are left out.
        """
        found: dict[bytes, Pb] = {}
        waiting = list(keys)
        most = MAX_LOOKUP_KEYS
        while waiting:
            asked, waiting = waiting[:most], waiting[most:]
            request = LookupRequest(**self._head, **self._read_options, keys=asked)
            payload = request.SerializeToString()
            try:
                answer = Call(self, "Lookup", payload, LookupResponse.FromString).result()
            except CallError as error:
                most = error.fewer(len(asked))
                if not most:
                    raise
                waiting = asked + waiting
                continue
            self._learn(answer.read_time)
            self.meter.read(len(answer.found) + len(answer.missing))
            for result in answer.found:
                found[result.entity.key.SerializeToString(deterministic=True)] = result
            waiting = [*answer.deferred, *waiting]
        return found

    def look_up(self, key: Pb) -> Call[Pb]:
        """Start a Lookup of one entity."""
        request = LookupRequest(**self._head, **self._read_options, keys=[key])
        return Call(self, "Lookup", request.SerializeToString(), self._lookup_answer)

    def _lookup_answer(self, serialized: bytes) -> Pb:
        answer = LookupResponse.FromString(serialized)
        self._learn(answer.read_time)
        self.meter.read(len(answer.found) + len(answer.missing))
        return answer

    def allocate_ids(self, keys: Sequence[Pb]) -> list[Pb]:
        """Complete incomplete Key messages, in their order. Raises CallError."""
        payload = AllocateIdsRequest(**self._head, keys=keys).SerializeToString()
        return list(
            Call(self, "AllocateIds", payload, AllocateIdsResponse.FromString).result().keys
        )


def count_of(answer: Pb) -> int:
    """The number in the answer to `Rpc.count`."""
    values = answer.batch.aggregation_results[0].aggregate_properties
    return int(values["n"].integer_value)
