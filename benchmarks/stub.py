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
from google.cloud.datastore_v1.types import entity as _entity
from google.cloud.datastore_v1.types import query as _query

from benchmarks.skim import count_mutations

PROJECT, KIND = "benchmark", "Person"
FIRST_ID = 5_000_000_000_000_000 >> 14 << 14
"""Ids as Datastore allocates them, 16 digits: 8 bytes as a varint, for any number we add."""
OWN_KINDS = "Bulkup"
STORED_KINDS = ("BulkupRun", "BulkupClaim")
PARSED_MUTATIONS = 8
"""Commits of more, or larger than PARSED_BYTES, are batches: counted, not looked into."""
PARSED_BYTES = 1 << 20
MOST_PER_PAGE = 1000
"""Results in one answer, whatever the limit: servers cut pages, and the official client takes no
answer above 4 MiB."""
SCATTER_EVERY = 100
CACHED_BYTES = 256 << 20
_VERSION = 1_700_000_000_000_000

Batch: Any = _query.QueryResultBatch.pb()
Entity: Any = _entity.Entity.pb()
EntityResult: Any = _query.EntityResult.pb()
Key: Any = _entity.Key.pb()
Operator: Any = _query.PropertyFilter.Operator
CommitRequest: Any = _datastore.CommitRequest.pb()
CommitResponse: Any = _datastore.CommitResponse.pb()


@dataclass(frozen=True)
class Settings:
    entities: int = 20_000
    body_bytes: int = 500
    """Of an entity without its key."""
    page_ms: float = 0
    """The server's own time for a page of the kind; likewise for a commit."""
    commit_ms: float = 0
    rtt_ms: float = 0
    """Added to every call. Waiting is a timer: calls that wait at the same time overlap."""


def person(number: int, rng: random.Random, size: int) -> Any:
    """About `size` bytes in 10 properties, 8 of them indexed; without a key."""
    entity = Entity()
    properties = entity.properties
    properties["name"].string_value = f"Person {number:06d}"
    properties["email"].string_value = f"person{number}@example.com"
    properties["group"].integer_value = number % 100
    properties["score"].double_value = rng.random()
    properties["visits"].integer_value = rng.randrange(10_000)
    properties["active"].boolean_value = bool(rng.getrandbits(1))
    properties["joined"].timestamp_value.seconds = 1_500_000_000 + rng.randrange(10**8)
    for tag in rng.sample(("red", "green", "blue", "black", "white"), 2):
        properties["tags"].array_value.values.add().string_value = tag
    properties["home"].entity_value.properties["city"].string_value = f"City {number % 300}"
    properties["home"].exclude_from_indexes = True
    properties["about"].exclude_from_indexes = True
    text = "lorem ipsum dolor " * (1 + size // 18)
    properties["about"].string_value = text[: max(1, size - entity.ByteSize() - 6)]
    return entity


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(tag: int, content: bytes) -> bytes:
    return varint(tag << 3 | 2) + varint(len(content)) + content


def key_of(position: int) -> Any:
    key = Key(partition_id={"project_id": PROJECT})
    key.path.add(kind=KIND, id=FIRST_ID + position)
    return key


def cursor_after(position: int) -> bytes:
    return (position + 1).to_bytes(8, "big")


class Pages:
    """The kind's entities as encoded results. An id's 14 low bits change with every entity, the
    rest seldom; bodies repeat."""

    def __init__(self, settings: Settings) -> None:
        self.count = settings.entities
        rng = random.Random(1)
        kinds = max(4, min(1000, (4 << 20) // settings.body_bytes))
        bodies = [
            person(number, rng, settings.body_bytes).SerializeToString(deterministic=True)
            for number in range(kinds)
        ]
        self.body_bytes = sum(map(len, bodies)) // len(bodies)
        self._low = [bytes((i & 0x7F | 0x80, i >> 7 | 0x80)) for i in range(1 << 14)]
        self._high: dict[int, bytes] = {}
        example = EntityResult(version=_VERSION)
        example.update_time.seconds = example.create_time.seconds = _VERSION // 1_000_000
        self._tail = example.SerializeToString()
        self._full = [self._around(body) for body in bodies]
        self._keys_only = [self._around(b"")]
        self._cache: dict[tuple[int, int, bool], bytes] = {}
        self._cached = 0
        for start in range(0, self.count, 500):
            if self._cached > CACHED_BYTES - 500 * settings.body_bytes * 2:
                break
            # Before anyone is measured, so that the first round is like the others.
            self.results(start, min(start + 500, self.count), False)

    def _around(self, body: bytes) -> tuple[bytes, bytes]:
        """What is before the id, and between it and the cursor."""
        key = key_of(0).SerializeToString()
        entity = _field(1, key) + body
        result = _field(1, entity) + b"\x1a\x08" + bytes(8) + self._tail
        whole = _field(2, result)
        head = whole[: whole.index(key) + len(key) - 8]
        return head, body + b"\x1a\x08"

    def results(self, start: int, end: int, keys_only: bool) -> bytes:
        """The `entity_results` of a batch: those at `start` up to `end`, which is left out."""
        known = self._cache.get((start, end, keys_only))
        if known is None:
            known = self._join(start, end, keys_only)
            if self._cached + len(known) <= CACHED_BYTES:
                self._cache[start, end, keys_only] = known
                self._cached += len(known)
        return known

    def _join(self, start: int, end: int, keys_only: bool) -> bytes:
        around, low, tail = self._keys_only if keys_only else self._full, self._low, self._tail
        bodies, pieces = len(around), []
        for position in range(start, end):
            head, middle = around[position % bodies]
            high = self._high.get(position >> 14)
            if high is None:
                high = varint(FIRST_ID + position)[2:]
                self._high[position >> 14] = high
            pieces += (
                head, low[position & 0x3FFF], high, middle, (position + 1).to_bytes(8, "big"), tail
            )  # fmt: skip
        return b"".join(pieces)


class Stub:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pages = Pages(settings)
        self.stored: dict[bytes, tuple[Any, int]] = {}
        """bulkup's records and claims, with their versions, by serialized key."""
        self._version = _VERSION
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
            return self._own(kind, query), 0.0
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
        for condition in _conditions(query):
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

    def _own(self, kind: str, query: Any) -> bytes:
        """Records of bulkup that fulfil a query's conditions; their cursor is their key."""
        found = []
        for key, (entity, version) in sorted(self.stored.items()):
            if entity.key.path[-1].kind != kind or key <= query.start_cursor:
                continue
            if all(_fulfils(entity, condition) for condition in _conditions(query)):
                found.append(EntityResult(entity=entity, version=version, cursor=key))
        results = b"".join(_field(2, result.SerializeToString()) for result in found)
        end = found[-1].cursor if found else query.start_cursor
        return _answer(results, end, Batch.NO_MORE_RESULTS, False)

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
            stored = self.stored.get(_identity(key))
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
            versions = self._store(CommitRequest.FromString(data).mutations)
            return _commit_answer(versions), took
        answer = self._commit_answers.get(count)
        if answer is None:
            answer = self._commit_answers[count] = _commit_answer([_VERSION + 1] * count)
        return answer, took

    def _store(self, mutations: Any) -> list[int]:
        """Apply what concerns bulkup's own records, all of it or nothing. Raises Refused."""
        writes: list[tuple[bytes, Any, int]] = []
        versions = []
        for mutation in mutations:
            self._version += 1
            versions.append(self._version)
            how = mutation.WhichOneof("operation")
            value = getattr(mutation, how)
            key = value if how == "delete" else value.key
            if key.path[-1].kind not in STORED_KINDS:
                continue
            there = self.stored.get(_identity(key))
            if how == "insert" and there:
                raise Refused(grpc.StatusCode.ALREADY_EXISTS, "entity already exists")
            if how == "update" and not there:
                raise Refused(grpc.StatusCode.NOT_FOUND, "no entity to update")
            if mutation.base_version and mutation.base_version != (there[1] if there else 0):
                raise Refused(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    "the stored version does not match the required base version",
                )
            writes.append((_identity(key), None if how == "delete" else value, self._version))
        for identity, entity, version in writes:
            if entity is None:
                self.stored.pop(identity, None)
            else:
                self.stored[identity] = entity, version
        return versions

    def begin(self, _: bytes) -> tuple[bytes, float]:
        self._allocated += 1
        transaction = b"%d" % self._allocated
        return _datastore.BeginTransactionResponse.pb()(
            transaction=transaction
        ).SerializeToString(), 0.0

    def rollback(self, _: bytes) -> tuple[bytes, float]:
        return b"", 0.0


class Refused(Exception):
    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def _identity(key: Any) -> bytes:
    """Kind and name or id of the path; the stub is one project and one namespace."""
    return b"/".join(part.SerializeToString(deterministic=True) for part in key.path)


def _conditions(query: Any) -> list[Any]:
    if not query.HasField("filter"):
        return []
    if query.filter.WhichOneof("filter_type") == "property_filter":
        return [query.filter.property_filter]
    return [part.property_filter for part in query.filter.composite_filter.filters]


def _fulfils(entity: Any, condition: Any) -> bool:
    def comparable(value: Any) -> Any:
        kind = value.WhichOneof("value_type")
        if kind == "timestamp_value":
            return value.timestamp_value.seconds + value.timestamp_value.nanos / 1e9
        return getattr(value, kind) if kind else None

    wanted, op = condition.value, Operator(condition.op).name
    if condition.property.name == "__key__":
        mine, other = entity.key.path[-1].name, wanted.key_value.path[-1].name
    else:
        if condition.property.name not in entity.properties:
            return False
        value = entity.properties[condition.property.name]
        if value.WhichOneof("value_type") != wanted.WhichOneof("value_type"):
            return False
        mine, other = comparable(value), comparable(wanted)
    return {
        "EQUAL": lambda: mine == other,
        "GREATER_THAN": lambda: mine > other,
        "GREATER_THAN_OR_EQUAL": lambda: mine >= other,
        "LESS_THAN": lambda: mine < other,
        "LESS_THAN_OR_EQUAL": lambda: mine <= other,
    }[op]()  # type: ignore[no-any-return]


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
    return answer.SerializeToString()  # type: ignore[no-any-return]


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
                "benchmarks.Stub", {"Counts": grpc.unary_unary_rpc_method_handler(counts)}
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
        with grpc.insecure_channel(self.host) as channel:
            answer: bytes = channel.unary_unary("/benchmarks.Stub/Counts")(b"", timeout=30)
        return json.loads(answer)  # type: ignore[no-any-return]


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Running]:
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(settings).items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stub", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[1],
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
    for field in fields(Settings):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(field.default), default=field.default)
    parser.add_argument("--port", type=int, default=0)
    given = vars(parser.parse_args())
    port = given.pop("port")
    asyncio.run(serve(Settings(**given), port))


if __name__ == "__main__":
    main()
