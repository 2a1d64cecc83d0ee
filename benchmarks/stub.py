"""A Datastore made of canned bytes, in a process of its own: what is measured is the client.

It holds one kind of `entities` entities in key order, whose bytes were encoded once. A page is
joined from these slices, a commit is only counted, and the one thing really stored are bulkup's own
records, which it reads back. Nothing a run writes to the kind can be seen in a later page.

    python -m benchmarks.stub [--entities 20000] [--page-ms 0] [--commit-ms 0] [--rtt-ms 0] ...

prints `ready HOST:PORT`, and ends when its standard input does. `running` does that from Python.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio
from google.cloud.datastore_v1.types import datastore as _datastore
from google.cloud.datastore_v1.types import query as _query

from benchmarks.canned import (
    FIRST_ID,
    KIND,
    VERSION,
    Batch,
    Pages,
    cursor_after,
    field,
    varint,
)
from benchmarks.records import Operator, Records, Refused, conditions
from benchmarks.skim import count_mutations

OWN_KINDS = "Bulkup"
PARSED_MUTATIONS = 8
"""Commits of more, or larger than PARSED_BYTES, are batches: counted, not looked into."""
PARSED_BYTES = 1 << 20
MOST_PER_PAGE = 1000
"""Results in one answer, whatever the limit: servers cut pages, and the official client takes no
answer above 4 MiB."""
SCATTER_EVERY = 100

CommitRequest: Any = _datastore.CommitRequest.pb()
CommitResponse: Any = _datastore.CommitResponse.pb()


@dataclass(frozen=True)
class Settings:
    entities: int = 20_000
    body_bytes: int = 500
    """Size of an entity without its key."""
    page_ms: float = 0
    """The server's own time for a page of the kind; likewise for a commit."""
    commit_ms: float = 0
    rtt_ms: float = 0
    """Added to every call. Waiting is a timer: calls that wait at the same time overlap."""


class Stub:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pages = Pages(settings.entities, settings.body_bytes)
        self.records = Records()
        self._commit_answers: dict[int, bytes] = {}
        self._allocated = FIRST_ID * 2
        rng = random.Random(2)
        self._scatter = list(range(0, settings.entities, SCATTER_EVERY))
        rng.shuffle(self._scatter)
        self.counts = {"calls": 0, "pages": 0, "read": 0, "commits": 0, "mutations": 0}

    # --- queries ---

    def run_query(self, data: bytes) -> tuple[bytes, float]:
        """An answer, and the seconds it takes."""
        request = _datastore.RunQueryRequest.pb().FromString(data)
        query = request.query
        kind = query.kind[0].name if query.kind else KIND
        keys_only = bool(query.projection) and query.projection[0].property.name == "__key__"
        if kind.startswith(OWN_KINDS):
            found = self.records.query(kind, query)
            encoded = b"".join(field(2, one.SerializeToString()) for one in found)
            end_cursor = found[-1].cursor if found else query.start_cursor
            return _answer(encoded, end_cursor, Batch.NO_MORE_RESULTS, keys_only), 0.0
        if kind != KIND:
            return _answer(b"", b"", Batch.NO_MORE_RESULTS, keys_only), 0.0
        start, end = self._range(query)
        limit = query.limit.value if query.HasField("limit") else None
        orders = [(order.property.name, order.direction) for order in query.order]
        if orders and orders[0][0] == "__scatter__":
            found = [at for at in self._scatter if start <= at < end][:limit]
            results = b"".join(self.pages.results(at, at + 1, keys_only) for at in found)
            cursor = cursor_after(found[-1]) if found else b""
            return _answer(results, cursor, Batch.NO_MORE_RESULTS, keys_only), 0.0
        if orders and (orders[0][0] != "__key__" or len(orders) > 1):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the stub orders by key alone")
        if orders and orders[0][1] == _query.PropertyOrder.Direction.DESCENDING:
            if limit != 1:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "descending only with limit 1")
            start = max(start, end - 1)
        skipped = min(query.offset, end - start)
        start += skipped
        stop = min(end, start + MOST_PER_PAGE if limit is None else start + limit)
        more = Batch.NO_MORE_RESULTS if stop >= end else Batch.MORE_RESULTS_AFTER_LIMIT
        if stop > start + MOST_PER_PAGE or (limit is None and stop < end):
            stop, more = start + MOST_PER_PAGE, Batch.NOT_FINISHED
        self.counts["pages"] += 1
        self.counts["read"] += stop - start
        results = self.pages.results(start, stop, keys_only)
        took = self.settings.page_ms / 1000
        return _answer(results, cursor_after(stop - 1), more, keys_only, skipped), took

    def _range(self, query: Any) -> tuple[int, int]:
        """The positions that cursors and conditions on the key leave."""
        start, end = 0, self.pages.count
        if query.start_cursor:
            start = int.from_bytes(query.start_cursor, "big")
        if query.end_cursor:
            end = min(end, int.from_bytes(query.end_cursor, "big"))
        for condition in conditions(query):
            if condition.property.name != "__key__":
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the stub filters by key alone")
            last = condition.value.key_value.path[-1]
            at = last.id - FIRST_ID if not last.name else self.pages.count
            op = Operator(condition.op).name
            if op in ("GREATER_THAN", "GREATER_THAN_OR_EQUAL", "EQUAL"):
                start = max(start, at + (op == "GREATER_THAN"))
            if op in ("LESS_THAN", "LESS_THAN_OR_EQUAL", "EQUAL"):
                end = min(end, at + (op != "LESS_THAN"))
        return start, max(start, end)

    def count(self, data: bytes) -> tuple[bytes, float]:
        request = _datastore.RunAggregationQueryRequest.pb().FromString(data)
        query = request.aggregation_query.nested_query
        start, end = self._range(query)
        if query.kind and query.kind[0].name != KIND:
            start, end = 0, 0
        answer = _datastore.RunAggregationQueryResponse.pb()()
        values = answer.batch.aggregation_results.add().aggregate_properties
        for aggregation in request.aggregation_query.aggregations:
            values[aggregation.alias].integer_value = end - start
        answer.batch.more_results = Batch.NO_MORE_RESULTS
        return answer.SerializeToString(), 0.0

    # --- keys ---

    def lookup(self, data: bytes) -> tuple[bytes, float]:
        request = _datastore.LookupRequest.pb().FromString(data)
        answer = _datastore.LookupResponse.pb()()
        for key in request.keys:
            stored = self.records.get(key)
            at = key.path[-1].id - FIRST_ID
            if stored is not None:
                answer.found.add(entity=stored[0], version=stored[1])
            elif key.path[-1].kind == KIND and 0 <= at < self.pages.count:
                batch = Batch.FromString(self.pages.results(at, at + 1, False))
                answer.found.append(batch.entity_results[0])
            else:
                answer.missing.add().entity.key.CopyFrom(key)
        return answer.SerializeToString(), 0.0

    def allocate_ids(self, data: bytes) -> tuple[bytes, float]:
        request = _datastore.AllocateIdsRequest.pb().FromString(data)
        answer = _datastore.AllocateIdsResponse.pb()(keys=request.keys)
        for key in answer.keys:
            self._allocated += 1
            key.path[-1].id = self._allocated
        return answer.SerializeToString(), 0.0

    # --- writes ---

    def commit(self, data: bytes) -> tuple[bytes, float]:
        count = count_mutations(data)
        self.counts["commits"] += 1
        self.counts["mutations"] += count
        took = self.settings.commit_ms / 1000
        if count <= PARSED_MUTATIONS and len(data) <= PARSED_BYTES:
            versions = self.records.store(CommitRequest.FromString(data).mutations)
            return _commit_answer(versions), took
        answer = self._commit_answers.get(count)
        if answer is None:
            answer = self._commit_answers[count] = _commit_answer([VERSION + 1] * count)
        return answer, took

    def begin(self, _: bytes) -> tuple[bytes, float]:
        self._allocated += 1
        transaction = b"%d" % self._allocated
        return _datastore.BeginTransactionResponse.pb()(
            transaction=transaction
        ).SerializeToString(), 0.0

    def rollback(self, _: bytes) -> tuple[bytes, float]:
        return b"", 0.0


def _answer(results: bytes, cursor: bytes, more: int, keys_only: bool, skipped: int = 0) -> bytes:
    rest = Batch(
        entity_result_type=2 if keys_only else 1,
        end_cursor=cursor,
        more_results=more,
        skipped_results=skipped,
        skipped_cursor=cursor if skipped else b"",
    )
    rest.read_time.seconds = int(time.time())
    tail = rest.SerializeToString()
    return b"".join((b"\x0a", varint(len(results) + len(tail)), results, tail))


def _commit_answer(versions: list[int]) -> bytes:
    answer = CommitResponse(mutation_results=[{"version": v} for v in versions])
    answer.commit_time.seconds = int(time.time())
    answer.index_updates = 10 * len(versions)
    return answer.SerializeToString()


# --- the process ---


async def serve(settings: Settings, port: int) -> None:
    stub = Stub(settings)
    rtt_s = settings.rtt_ms / 1000
    clock = asyncio.get_running_loop().time

    def method(answer: Callable[[bytes], tuple[bytes, float]]) -> grpc.RpcMethodHandler:
        async def handle(data: bytes, context: Any) -> bytes:
            began = clock()
            stub.counts["calls"] += 1
            try:
                out, took_s = answer(data)
            except Refused as refused:
                await asyncio.sleep(rtt_s)
                await context.abort(refused.code, str(refused))
            # What the stub itself took is part of the latency, not added to it.
            left = began + took_s + rtt_s - clock()
            if left > 0:
                await asyncio.sleep(left)
            return out

        return grpc.unary_unary_rpc_method_handler(handle)

    async def counts(_: bytes, __: Any) -> bytes:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return json.dumps({**stub.counts, "cpu_s": used.ru_utime + used.ru_stime}).encode()

    async def forget(_: bytes, __: Any) -> bytes:
        stub.records = Records()
        return b""

    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
    )
    methods = {
        "RunQuery": method(stub.run_query),
        "RunAggregationQuery": method(stub.count),
        "Lookup": method(stub.lookup),
        "Commit": method(stub.commit),
        "AllocateIds": method(stub.allocate_ids),
        "BeginTransaction": method(stub.begin),
        "Rollback": method(stub.rollback),
    }
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("google.datastore.v1.Datastore", methods),
            grpc.method_handlers_generic_handler(
                "benchmarks.Stub",
                {
                    "Counts": grpc.unary_unary_rpc_method_handler(counts),
                    "Forget": grpc.unary_unary_rpc_method_handler(forget),
                },
            ),
        )
    )
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(f"ready 127.0.0.1:{bound}", flush=True)
    await _end_of_input()
    await server.stop(None)


def _end_of_input() -> Awaitable[bytes]:
    return asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


# --- for those who start it ---


@dataclass(frozen=True)
class Running:
    host: str
    pid: int
    settings: Settings

    def counts(self) -> dict[str, float]:
        """What was asked of it since it started, and the CPU seconds it has used."""
        return json.loads(self._call("Counts"))

    def forget(self) -> None:
        """Drop bulkup's records. Without its markers, which are not kept here, a run that ended
        early cannot be resumed, and the next one of the same updater would try."""
        self._call("Forget")

    def _call(self, method: str) -> bytes:
        with grpc.insecure_channel(self.host) as channel:
            return channel.unary_unary(f"/benchmarks.Stub/{method}")(b"", timeout=30)


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Running]:
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(settings).items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stub", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[1],
        # A Ctrl-C is for those who measure; the stub ends with its input.
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline().decode()
        if not line.startswith("ready "):
            raise SystemExit("the stub did not start")
        yield Running(line.split()[1], process.pid, settings)
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for one in fields(Settings):
        option = f"--{one.name.replace('_', '-')}"
        parser.add_argument(option, type=type(one.default), default=one.default)
    parser.add_argument("--port", type=int, default=0)
    given = vars(parser.parse_args())
    port = given.pop("port")
    asyncio.run(serve(Settings(**given), port))


if __name__ == "__main__":
    main()
