"""The embedded Datastore beside Google's emulators: one client, the same data, one run.

The client is raw protobuf over gRPC, so that what is measured is the server: the official client
costs more time for each entity than any of these servers. The servers take turns request by
request, so that a slow moment of the machine meets all of them; while one has its turn the others
are stopped, so that what a server does behind its answers is done in its own time.

    python -m benchmarks.embedded [--entities 100000] [--cap 60] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
from google.cloud import datastore
from google.cloud.datastore_v1.types import datastore as _datastore
from google.cloud.datastore_v1.types import entity as _entity
from google.cloud.datastore_v1.types import query as _query

from benchmarks.servers import Server, embedded, google, sdk_version

PROJECT, KIND = "benchmark", "Person"
BATCH = 500
GROUPS = 100
STREAM = "one unlimited query"
RPC_TIMEOUT_S = 300
TURN = 20
"""Entities handled in a turn at least: one alone would be about waking up."""
WARM_UP = 5_000
"""Entities; a round of warming up has about 10,000 puts and changes."""
WARM_UP_AT_MOST_S = 180
MAX_BYTES = 256 * 1024 * 1024
"""An unlimited query of 100,000 is one answer of the Firestore emulator."""
MEMORY_LIMIT_MIB = 64
"""How much the embedded server may grow while a whole kind streams through it: a kind of 100,000
has 60 MiB on the wire, and a page of it less than one."""

OFFICIAL = "official client, 39 KB each"
LARGE_ENTITIES, LARGE_STRINGS, LARGE_STRING_BYTES = 2_500, 26, 1_500
"""As large as indexed strings may be: 39 KB an entity, about 40 of them on a page."""
LARGE_MB_A_SECOND = 20
SLOWER_AT_MOST = 2.0
"""By this the last third of the pages may be slower than the first: where flow control stalls, it
is a hundred times slower."""

Entity = _entity.Entity.pb()
Key = _entity.Key.pb()
Query = _query.Query.pb()
Batch = _query.QueryResultBatch.pb()
Mutation = _datastore.Mutation.pb()


class Client:
    """Raw requests to one server, and the seconds spent waiting for it, by row."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.channel = grpc.insecure_channel(
            server.host,
            options=[
                ("grpc.max_receive_message_length", MAX_BYTES),
                ("grpc.max_send_message_length", MAX_BYTES),
            ],
        )

    def call(self, method: str, **fields: Any) -> Any:
        request = getattr(_datastore, f"{method}Request").pb()(project_id=PROJECT, **fields)
        call = self.channel.unary_unary(
            f"/google.datastore.v1.Datastore/{method}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=getattr(_datastore, f"{method}Response").pb().FromString,
        )
        return call(request, timeout=RPC_TIMEOUT_S)


Work = Callable[[Client], Iterator[int]]
"""A row's work on one server, as steps; each yields how many entities it handled."""


@dataclass
class Measure:
    seconds: float = 0.0
    entities: int = 0
    finished: bool = False
    peak_mib: float = 0.0
    grown_mib: float = 0.0


@dataclass
class Row:
    name: str
    work: Work
    capped: bool = True
    at_least: float = 1.0
    """Times the rate of each emulator."""
    measures: dict[str, Measure] = field(default_factory=dict)

    def passed(self) -> bool:
        ours = self.measures["embedded"]
        others = [m for name, m in self.measures.items() if name != "embedded"]
        return ours.finished and all(_rate(ours) > self.at_least * _rate(other) for other in others)


def _rate(measure: Measure) -> float:
    return measure.entities / measure.seconds if measure.seconds else 0.0


def person(number: int, rng: random.Random) -> Any:
    """About 500 bytes in 10 properties, 8 of them indexed."""
    entity = Entity(key=_key(number))
    properties = entity.properties
    properties["name"].string_value = f"Person {number:06d}"
    properties["email"].string_value = f"person{number}@example.com"
    properties["group"].integer_value = number % GROUPS
    properties["score"].double_value = rng.random()
    properties["visits"].integer_value = rng.randrange(10_000)
    properties["active"].boolean_value = bool(rng.getrandbits(1))
    properties["joined"].timestamp_value.seconds = 1_500_000_000 + rng.randrange(10**8)
    for tag in rng.sample(("red", "green", "blue", "black", "white"), 2):
        properties["tags"].array_value.values.add().string_value = tag
    properties["about"].string_value = "lorem ipsum " * 15
    properties["about"].exclude_from_indexes = True
    properties["home"].entity_value.properties["city"].string_value = f"City {number % 300}"
    properties["home"].exclude_from_indexes = True
    return entity


def _key(number: int) -> Any:
    key = Key(partition_id={"project_id": PROJECT})
    key.path.add(kind=KIND, id=number)
    return key


def _asked(limit: int | None = None, **fields: Any) -> Any:
    query = Query(**fields)
    query.kind.add(name=KIND)
    if limit is not None:
        query.limit.value = limit
    return query


def puts(entities: list[Any]) -> Work:
    def work(client: Client) -> Iterator[int]:
        for start in range(0, len(entities), BATCH):
            batch = entities[start : start + BATCH]
            mutations = [Mutation(upsert=entity) for entity in batch]
            client.call("Commit", mode="NON_TRANSACTIONAL", mutations=mutations)
            yield len(batch)

    return work


def pages(limit: int | None, entities: int) -> Work:
    """Through the whole kind by cursors; with `limit` None the server cuts the pages."""

    def work(client: Client) -> Iterator[int]:
        query, found = _asked(limit), 0
        while True:
            batch = client.call("RunQuery", query=query).batch
            found += len(batch.entity_results)
            yield len(batch.entity_results)
            if not batch.entity_results or batch.more_results == Batch.NO_MORE_RESULTS:
                break
            if limit is None and batch.more_results != Batch.NOT_FINISHED:
                break
            query.start_cursor = batch.end_cursor
        assert found == entities, f"{client.server.name} found {found} of {entities}"

    return work


def filtered(times: int) -> Work:
    """The 100 best of a group: an equality and an order by something else."""

    def work(client: Client) -> Iterator[int]:
        for number in range(times):
            query = _asked(100)
            where = query.filter.property_filter
            where.property.name, where.op = "group", "EQUAL"
            where.value.integer_value = number % GROUPS
            query.order.add(direction="DESCENDING").property.name = "score"
            batch = client.call("RunQuery", query=query).batch
            scores = [r.entity.properties["score"].double_value for r in batch.entity_results]
            assert scores == sorted(scores, reverse=True)
            yield len(scores)

    return work


def changes(size: int, times: int, entities: int) -> Work:
    """Get `size` entities, change one property, put them if nobody else has: one commit."""

    def work(client: Client) -> Iterator[int]:
        rng = random.Random(size)
        handled = 0
        for _ in range(times):
            numbers = rng.sample(range(1, entities + 1), min(size, entities))
            found = client.call("Lookup", keys=[_key(n) for n in numbers]).found
            mutations = []
            for result in found:
                result.entity.properties["visits"].integer_value += 1
                mutations.append(
                    Mutation(
                        update=result.entity, base_version=result.version,
                        conflict_resolution_strategy="FAIL",
                    )
                )  # fmt: skip
            client.call(
                "Commit", mode="TRANSACTIONAL", single_use_transaction={"read_write": {}},
                mutations=mutations,
            )  # fmt: skip
            handled += len(mutations)
            if handled >= TURN:
                yield handled
                handled = 0
        if handled:
            yield handled

    return work


def measure(row: Row, clients: list[Client], cap_s: float) -> None:
    """Let the servers take turns, step by step; who has used `cap_s` is stopped there.

    A JVM compiles and collects garbage after its answers, for minutes: with two cores that would
    be charged to the next one. The server that has the turn has the machine.
    """
    running: list[tuple[Client, Iterator[int], Measure, float]] = []
    for client in clients:
        client.server.reset_peak()
        before = client.server.peak_mib()
        row.measures[client.server.name] = Measure()
        running.append((client, row.work(client), row.measures[client.server.name], before))
    turn = 0
    with _paused([client.server for client in clients]):
        while running:
            turn += 1
            order = running[turn % len(running) :] + running[: turn % len(running)]
            for one in order:
                client, steps, result, before = one
                client.server.resume()
                start = time.perf_counter()
                done = next(steps, None)
                result.seconds += time.perf_counter() - start
                client.server.pause()
                result.entities += done or 0
                if done is None:
                    result.finished = True
                if done is None or (row.capped and result.seconds > cap_s):
                    result.peak_mib = client.server.peak_mib()
                    result.grown_mib = result.peak_mib - before
                    running.remove(one)


@contextlib.contextmanager
def _paused(servers: list[Server]) -> Iterator[None]:
    for server in servers:
        server.pause()
    try:
        yield
    finally:
        for server in servers:
            server.resume()


def heading(names: list[str]) -> str:
    return f"{'':34}" + "".join(f"{name:>22}" for name in names) + f"{'ratio':>14}"


def line(row: Row) -> str:
    """Seconds and entities a second of each server; how many times faster the embedded one is."""
    ours = _rate(row.measures["embedded"])
    cells, ratios = [], []
    for name, one in row.measures.items():
        seconds = f"{one.seconds:.2f} s" if one.finished else f"> {one.seconds:.0f} s"
        cells.append(f"{seconds:>11}{_rate(one):>9,.0f}/s")
        if name != "embedded":
            ratios.append(f"{ours / _rate(one):.1f}x" if _rate(one) else "-")
    shown = "".join(f"{cell:>22}" for cell in cells)
    return f"{row.name:34}{shown}{' '.join(ratios):>14} {'PASS' if row.passed() else 'FAIL'}"


def _warm_up(client: Client) -> None:
    """Serve the kinds of requests that will be measured, on entities that are then deleted, until
    that gets no faster.

    A JVM interprets first and compiles what it meets often, twice: after a second of requests the
    Firestore emulator puts 2,000 entities a second, after ten 6,000, after thirty 20,000, and then
    no more. Slower requests are compiled later, so neither a number of requests nor of seconds
    tells when it is done. The embedded server compiles nothing: one round shows whether it works.
    """
    few = [person(number, random.Random(2)) for number in range(1, WARM_UP + 1)]
    works = (
        puts(few), pages(BATCH, WARM_UP), pages(None, WARM_UP), filtered(5),
        changes(1, 50, WARM_UP), changes(BATCH, 5, WARM_UP),
    )  # fmt: skip
    best = [float("inf")] * len(works)
    start, since_better = time.monotonic(), 0
    while since_better < 4 and time.monotonic() - start < WARM_UP_AT_MOST_S:
        since_better += 1
        for number, work in enumerate(works):
            begun = time.perf_counter()
            for _ in work(client):
                pass
            took = time.perf_counter() - begun
            if took < 0.95 * best[number]:
                since_better = 0
            best[number] = min(best[number], took)
        for at in range(0, WARM_UP, BATCH):
            gone = [Mutation(delete=entity.key) for entity in few[at : at + BATCH]]
            client.call("Commit", mode="NON_TRANSACTIONAL", mutations=gone)
        if client.server.name == "embedded":
            break
    print(f"{client.server.name} is warm after {time.monotonic() - start:.0f} s", flush=True)


@dataclass
class OfficialRead:
    """What Google's own client took to read large entities, page by page."""

    entities: int
    megabytes: float
    seconds: float
    slowdown: float
    """The median time of a page in the last third, by that in the first."""

    def passed(self) -> bool:
        rate = self.megabytes / self.seconds
        return rate >= LARGE_MB_A_SECOND and self.slowdown <= SLOWER_AT_MOST


def official_read(client: Client) -> OfficialRead:
    """The official client on a channel with its default options, which probes the bandwidth.

    The emulators have no part in this: FS answers in one message that this client refuses.
    """
    kind, size = "Large", LARGE_STRINGS * LARGE_STRING_BYTES
    entity = Entity(key=_key(1))
    entity.key.path[0].kind = kind
    for number in range(LARGE_STRINGS):
        entity.properties[f"text{number}"].string_value = chr(97 + number) * LARGE_STRING_BYTES
    for start in range(0, LARGE_ENTITIES, 100):
        mutations = [Mutation(upsert=entity) for _ in range(100)]
        for number, mutation in enumerate(mutations, start + 1):
            mutation.upsert.key.path[0].id = number
        client.call("Commit", mode="NON_TRANSACTIONAL", mutations=mutations)
    with mock.patch.dict(os.environ, DATASTORE_EMULATOR_HOST=client.server.host):
        official = datastore.Client(project=PROJECT)
    first = _asked(1)
    first.kind[0].name = kind
    client.call("RunQuery", query=first)  # makes the index entries, which may take a while
    list(official.query(kind=kind).fetch(limit=1))
    times, count = [], 0
    start_s = at = time.perf_counter()
    for page in official.query(kind=kind).fetch().pages:
        count += len(list(page))
        now = time.perf_counter()
        times.append(now - at)
        at = now
    assert count == LARGE_ENTITIES, f"read {count} of {LARGE_ENTITIES}"
    third = len(times) // 3
    slowdown = statistics.median(times[-third:]) / statistics.median(times[:third])
    return OfficialRead(count, count * size / 1e6, at - start_s, slowdown)


def _sync_us() -> float:
    """What it takes here until 8 KB more are on the disk; median."""
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(200):
            file.write(bytes(8192))
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - start)
    return 1e6 * statistics.median(took)


def _verdict(
    rows: list[Row], official: OfficialRead, names: list[str], sync_us: float, path: str | None
) -> int:
    stream = next(row for row in rows if row.name == STREAM).measures["embedded"]
    bounded = stream.finished and stream.grown_mib <= MEMORY_LIMIT_MIB
    print(
        f"memory of the embedded server while {stream.entities:,} entities stream: peak "
        f"{stream.peak_mib:.0f} MiB, {stream.grown_mib:.0f} MiB more than before "
        f"(at most {MEMORY_LIMIT_MIB}): {'PASS' if bounded else 'FAIL'}"
    )
    passed = bounded and official.passed() and all(row.passed() for row in rows)
    if path:
        report = {
            "entities": stream.entities,
            "python": platform.python_version(),
            "sdk": sdk_version(),
            "cores": os.cpu_count(),
            "sync_us": round(sync_us),
            "servers": names,
            "rows": [
                {
                    "name": row.name,
                    "passed": row.passed(),
                    "servers": {name: asdict(m) for name, m in row.measures.items()},
                }
                for row in rows
            ],
            "official_read": {**asdict(official), "passed": official.passed()},
            "memory_bounded": bounded,
            "passed": passed,
        }
        Path(path).write_text(json.dumps(report, indent=2) + "\n")
    return 0 if passed else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--cap", type=float, default=60, help="seconds for a server in a row")
    parser.add_argument("--json", help="write the numbers to this file too")
    parser.add_argument("--only", choices=("embedded",), help="leave the emulators out")
    options = parser.parse_args()
    count = options.entities
    rng = random.Random(1)
    people = [person(number, rng) for number in range(1, count + 1)]
    size = sum(p.ByteSize() for p in people) // max(1, count)
    print(f"{count:,} entities of {size} bytes, Python {platform.python_version()}")
    rows = [
        Row(f"puts of {BATCH}", puts(people), capped=False),
        Row(f"pages of {BATCH} through the kind", pages(BATCH, count)),
        Row(STREAM, pages(None, count)),
        Row("filter + order, 100 of a group", filtered(30)),
        # It waits for the disk each time; the emulators write to none.
        Row("get, change, put: 1 at a time", changes(1, 200, count), at_least=0.7),
        Row(f"get, change, put: {BATCH} at a time", changes(BATCH, 20, count)),
    ]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(embedded())]
        if not options.only:
            servers += [stack.enter_context(google(name)) for name in ("LF", "FS")]
        clients = [Client(server) for server in servers]
        for client in clients:
            stack.callback(client.channel.close)
            _warm_up(client)
        print(heading([server.name for server in servers]))
        for row in rows:
            measure(row, clients, options.cap)
            print(line(row), flush=True)
        official = official_read(clients[0])
    print(
        f"{OFFICIAL:34}{official.seconds:9.2f} s{official.megabytes / official.seconds:6.0f} MB/s, "
        f"last pages {official.slowdown:.1f} times the first ones "
        f"{'PASS' if official.passed() else 'FAIL'}"
    )
    sync_us = _sync_us()
    print(f"the disk takes {sync_us:.0f} us a commit; the embedded server alone waits for it")
    names = [server.name for server in servers]
    return _verdict(rows, official, names, sync_us, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
