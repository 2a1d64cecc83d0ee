"""Commits whose rows are written later: no client can tell, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.local import messages as m
from bulkup.local import storage as storage_module
from bulkup.local.pending import Pending, Record, State, decode, encode
from bulkup.local.process import start_local
from bulkup.local.server import DatastoreServer
from bulkup.local.storage import Storage
from tests.examples import examples
from tests.local.rpc import FAIL, Rpc, both, idents, query, to_value, unindexed, where

_TABLES = {
    "entities": "part, kind, path, version, created, packed, body",
    "entities_past": "part, kind, path, version, created, until, packed, body",
    "entries": "slot, value, path, since, until",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DatastoreServer]:
    with DatastoreServer(tmp_path / "db") as server:
        yield server


@pytest.fixture
def rpc(server: DatastoreServer) -> Iterator[Rpc]:
    rpc = Rpc(server.host)
    yield rpc
    rpc.close()


def _defer(rpc: Rpc) -> None:
    """Commits from here on are deferred, until a query comes."""
    for _ in range(3):
        rpc.put(rpc.entity("Other", 1))


# --- a commit is checked, and has the same effect, either way ---

_values = st.one_of(
    st.none(),
    st.integers(0, 2),
    st.sampled_from(["", "a", "x" * 1600]).map(unindexed),
    st.just("a"),
    st.lists(st.integers(0, 2), max_size=3),
    st.fixed_dictionaries({"c": st.integers(0, 1)}),
    st.sampled_from([0, 1500, 2000]).map(lambda n: m.Value(timestamp_value={"nanos": n})),
    st.just(m.Value(timestamp_value={"seconds": 1 << 40})),
    st.just("x" * 1501),
    st.just(m.Value(meaning=99, integer_value=1)),
)
_properties = st.dictionaries(st.sampled_from(["a", "b", "b.c", "__d__"]), _values, max_size=3)
_mutations = st.tuples(
    st.sampled_from(["upsert", "insert", "update", "delete"]), st.integers(1, 3), _properties
)


def _request(rpc: Rpc, mutations: list[tuple[str, int, dict[str, Any]]]) -> list[Any]:
    out = []
    for name, number, properties in mutations:
        if name == "delete":
            out.append(m.Mutation(delete=rpc.key("K", number)))
        else:
            entity = rpc.entity("K", number)
            for prop, one in properties.items():
                entity.properties[prop].CopyFrom(to_value(one))
            out.append(m.Mutation(**{name: entity}))
    return out


def _tables(storage: Storage) -> dict[str, list[Any]]:
    """All rows, with slots and kinds by name, because their numbers depend on the order of use."""
    with storage.reading() as snapshot:
        rows = {
            table: snapshot.db.execute(f"SELECT {columns} FROM {table}").fetchall()
            for table, columns in _TABLES.items()
        }
    slots = {number: prop for (_, prop), number in storage.catalog.slots.items()}
    rows["entries"] = [(slots[slot], *rest) for slot, *rest in rows["entries"]]
    for table in ("entities", "entities_past"):
        # The packed strings refer to slots by number.
        rows[table] = [(*row[:-2], row[-1]) for row in rows[table]]
    return {table: sorted(found, key=repr) for table, found in rows.items()}


def _outcome(rpc: Rpc, mutations: list[Any], transactional: bool) -> Any:
    try:
        answer = rpc.commit(mutations, transactional=transactional)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return [(one.version, one.conflict_detected) for one in answer.mutation_results]


@examples(60)
@given(
    st.lists(
        st.tuples(st.lists(_mutations, min_size=1, max_size=3), st.booleans(), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_deferred_rows_equal_the_rows_written_at_once(
    commits: list[tuple[list[tuple[str, int, dict[str, Any]]], bool, bool]],
) -> None:
    outcomes, tables, reads = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for at_once in (True, False):
            clock = count(2_000_000_000_000_000)
            now = [next(clock)]
            storage = Storage(Path(folder, str(at_once)), clock=lambda now=now: now[0])  # type: ignore[misc]
            with DatastoreServer(storage.path, storage=storage) as server:
                rpc = Rpc(server.host)
                if not at_once:
                    storage._since_query = 10
                found, looked = [], []
                for mutations, transactional, look in commits:
                    now[0] = next(clock)
                    found.append(_outcome(rpc, _request(rpc, mutations), transactional))
                    if at_once:
                        rpc.run(query())
                    if look:
                        looked.append(
                            [
                                (one.entity, one.version, one.create_time)
                                for one in rpc.lookup(*(rpc.key("K", n) for n in (1, 2, 3))).found
                            ]
                        )
                if not at_once:
                    assert storage._since_query >= 10  # no query came
                outcomes.append(found)
                reads.append(looked)
                tables.append(_tables(storage))
                rpc.close()
    assert outcomes[0] == outcomes[1]
    assert reads[0] == reads[1]
    assert tables[0] == tables[1]


# --- queries ---


def test_a_query_finds_pending_commits(rpc: Rpc) -> None:
    _defer(rpc)
    rpc.put(*(rpc.entity("K", i, a=i, b=[i, i + 1], c={"d": i}, e=i) for i in range(1, 6)))
    _defer(rpc)
    changed = rpc.entity("K", 1, a=10, b=[2], c={"d": 20}, f=1)
    rpc.put(changed, rpc.entity("K", 2, a=unindexed(2), b=[], e=2))
    rpc.delete(rpc.key("K", 3))
    rpc.put(rpc.entity("K", 4, a=4, b=[4, 5], c={"d": 4}, e=4))

    def found(name: str, op: str, one: Any) -> list[int]:
        return idents(rpc.all(query("K", where(name, op, one))))

    assert found("a", "=", 10) == [1]
    _defer(rpc)
    rpc.put(rpc.entity("K", 9, a=1))
    assert found("a", "=", 1) == [9]
    assert found("a", "=", 2) == []
    assert found("a", "=", 3) == []
    assert found("b", "=", 2) == [1]
    assert found("b", "=", 5) == [4, 5]
    assert found("c.d", ">=", 4) == [4, 5, 1]
    assert found("e", ">", 0) == [2, 4, 5]
    assert found("f", "=", 1) == [1]
    assert idents(rpc.all(query("K"))) == [1, 2, 4, 5, 9]
    assert idents(rpc.all(query("K", both(where("a", "=", 4), where("b", "=", 5))))) == [4]


def test_a_query_at_a_read_time_finds_the_pending_commits_of_that_time(rpc: Rpc) -> None:
    _defer(rpc)
    rpc.put(rpc.entity("K", 1, a=1), rpc.entity("K", 2, a=1))
    begun = rpc.begin(read_only=True)
    rpc.put(rpc.entity("K", 1, a=2))
    rpc.delete(rpc.key("K", 2))
    found = rpc.get(rpc.key("K", 1), transaction=begun)
    assert found is not None
    assert found.entity.properties["a"].integer_value == 1
    assert rpc.get(rpc.key("K", 2), transaction=begun) is not None
    assert idents(rpc.all(query("K", where("a", "=", 1)), begun)) == [1, 2]
    assert idents(rpc.all(query("K", where("a", ">", 0)))) == [1]


def test_counts_and_kinds_include_pending_commits(rpc: Rpc) -> None:
    _defer(rpc)
    rpc.put(*(rpc.entity("New", i) for i in range(1, 8)))
    request = m.RunAggregationQueryRequest()
    request.partition_id.project_id = rpc.project
    request.aggregation_query.nested_query.CopyFrom(query("New"))
    request.aggregation_query.aggregations.add(alias="n").count.SetInParent()
    answer = rpc.call("RunAggregationQuery", request)
    (result,) = answer.batch.aggregation_results
    assert result.aggregate_properties["n"].integer_value == 7
    _defer(rpc)
    rpc.put(rpc.entity("Newer", 1))
    assert idents(rpc.all(query("__kind__"))) == ["New", "Newer", "Other"]


# --- conditions and transactions ---


def test_a_condition_is_checked_against_pending_writes(rpc: Rpc) -> None:
    _defer(rpc)
    (first,) = rpc.put(rpc.entity("K", 1, a=1)).mutation_results
    (second,) = rpc.put(rpc.entity("K", 1, a=2)).mutation_results
    assert second.version > first.version

    def update(version: int) -> Any:
        return m.Mutation(
            update=rpc.entity("K", 1, a=3), base_version=version, conflict_resolution_strategy=FAIL
        )

    with pytest.raises(grpc.RpcError) as caught:
        rpc.commit([update(first.version), m.Mutation(upsert=rpc.entity("K", 2))])
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert rpc.get(rpc.key("K", 2)) is None
    rpc.commit([update(second.version)])
    with pytest.raises(grpc.RpcError) as caught:
        rpc.commit([m.Mutation(insert=rpc.entity("K", 1))])
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
    rpc.delete(rpc.key("K", 1))
    with pytest.raises(grpc.RpcError) as caught:
        rpc.commit([m.Mutation(update=rpc.entity("K", 1))])
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_looked_up_entity_is_read_again_after_another_write(
    server: DatastoreServer, rpc: Rpc
) -> None:
    other = Rpc(server.host)
    _defer(rpc)
    (first,) = rpc.put(rpc.entity("K", 1, a=1)).mutation_results
    assert server.storage._since_query > 2
    for number in range(3):
        rpc.lookup(rpc.key("K", 1), rpc.key("K", 2))
        other.put(rpc.entity("K", 1, a=10 + number), rpc.entity("K", 2, a=number))
        with pytest.raises(grpc.RpcError) as caught:
            rpc.commit(
                [
                    m.Mutation(
                        update=rpc.entity("K", 1, a=2),
                        base_version=first.version,
                        conflict_resolution_strategy=FAIL,
                    )
                ]
            )
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        with pytest.raises(grpc.RpcError) as caught:
            rpc.commit([m.Mutation(insert=rpc.entity("K", 2))])
        assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
    rpc.lookup(rpc.key("K", 1), rpc.key("K", 3))
    rpc.commit([m.Mutation(update=rpc.entity("K", 1, a=5)), m.Mutation(insert=rpc.entity("K", 3))])
    assert idents(rpc.all(query("K", where("a", "=", 5)))) == [1]
    assert idents(rpc.all(query("K"))) == [1, 2, 3]
    other.close()


def test_a_pending_write_conflicts_with_a_transaction_that_read_the_entity(rpc: Rpc) -> None:
    for read in (
        lambda t: rpc.get(rpc.key("K", 1), t),
        lambda t: rpc.all(query("K", where("a", "=", 1)), t),
    ):
        rpc.put(rpc.entity("K", 1, a=1))
        _defer(rpc)
        transaction = rpc.begin()
        read(transaction)
        _defer(rpc)
        rpc.put(rpc.entity("K", 1, a=2))
        with pytest.raises(grpc.RpcError) as caught:
            rpc.commit([m.Mutation(upsert=rpc.entity("K", 5))], transaction=transaction)
        assert caught.value.code() == grpc.StatusCode.ABORTED


def test_concurrent_readers_see_whole_commits(server: DatastoreServer) -> None:
    """Each commit writes the same number to ten entities."""
    keys = range(1, 11)
    done = threading.Event()
    failed: list[str] = []

    def read() -> None:
        rpc = Rpc(server.host)
        turn = 0
        while not done.is_set():
            turn += 1
            if turn % 9:
                results = rpc.lookup(*(rpc.key("K", i) for i in keys)).found
            else:
                results = rpc.all(query("K", where("n", ">", -1)))
            numbers = {one.entity.properties["n"].integer_value for one in results}
            if len(results) != 10 or len(numbers) != 1:
                failed.append(f"{len(results)} with {numbers}")
        rpc.close()

    writer = Rpc(server.host)
    writer.put(*(writer.entity("K", i, n=0) for i in keys))
    readers = [threading.Thread(target=read) for _ in range(3)]
    for one in readers:
        one.start()
    for number in range(1, 60):
        writer.put(*(writer.entity("K", i, n=number) for i in keys))
    done.set()
    for one in readers:
        one.join()
    writer.close()
    assert failed == []


# --- the log ---


@pytest.mark.parametrize("turns", [2, pytest.param(8, marks=pytest.mark.chaos)])
def test_after_a_kill_the_log_is_read_again(tmp_path: Path, turns: int) -> None:
    """Killed repeatedly with pending commits, also while their rows are being written."""
    path = tmp_path / "db"
    chance = random.Random(5)
    expected: dict[int, int] = {}
    versions = [0]
    pending_seen = 0
    for turn in range(turns):
        with start_local(path) as server:
            rpc = Rpc(server.host)
            for _ in range(chance.randrange(3, 9)):
                some = chance.sample(range(1, 40), 10)
                step = len(versions)  # every write changes something
                entities = [rpc.entity("K", i, turn=turn, twice=2 * turn, s=step) for i in some]
                versions.append(rpc.put(*entities).mutation_results[0].version)
                expected.update(dict.fromkeys(some, turn))
                if chance.random() < 0.3:
                    gone = some[0]
                    rpc.delete(rpc.key("K", gone))
                    del expected[gone]
            asked = threading.Thread(target=_ask, args=(server.host,))
            if turn % 2:
                asked.start()
            os.kill(server.pid, signal.SIGKILL)
            if turn % 2:
                asked.join()
            rpc.close()
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            pending_seen += db.execute("SELECT count(*) FROM log").fetchone()[0]
        with start_local(path) as server:
            rpc = Rpc(server.host)
            found = rpc.lookup(*(rpc.key("K", i) for i in range(1, 40))).found
            assert {
                one.entity.key.path[0].id: one.entity.properties["turn"].integer_value
                for one in found
            } == expected
            if turn % 3 == 0:
                for number in range(turn + 1):
                    ids = sorted(i for i, value in expected.items() if value == number)
                    assert idents(rpc.all(query("K", where("twice", "=", 2 * number)))) == ids
            rpc.close()
    assert pending_seen > 0
    assert versions == sorted(set(versions))


def _ask(host: str) -> None:
    rpc = Rpc(host)
    with contextlib.suppress(grpc.RpcError):  # the server is being killed
        rpc.all(query("K", where("turn", ">", -1)))
    rpc.close()


def test_a_commit_that_fails_leaves_no_trace_in_memory(server: DatastoreServer, rpc: Rpc) -> None:
    _defer(rpc)
    rpc.put(rpc.entity("K", 1, a=1))
    db = server.storage._write
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(grpc.RpcError) as caught:
        rpc.put(rpc.entity("K", 1, a=2, b=unindexed("x" * 90_000)))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    found = rpc.get(rpc.key("K", 1))
    assert found is not None
    assert found.entity.properties["a"].integer_value == 1
    db.execute("PRAGMA max_page_count = 1073741823")
    assert idents(rpc.all(query("K", where("a", "=", 1)))) == [1]


def test_pending_commits_take_bounded_memory(
    server: DatastoreServer, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_PENDING_BYTES", 20_000)
    _defer(rpc)
    for number in range(1, 40):
        rpc.put(*(rpc.entity("K", 10 * number + i, a=number, b="x" * 100) for i in range(10)))
        assert server.storage.pending.size < 25_000
    assert len(server.storage.pending) > 5
    assert len(rpc.all(query("K", where("a", ">", 0)))) == 390
    assert server.storage.pending.size == 0


def test_pending_rows_are_written_while_idle(server: DatastoreServer, rpc: Rpc) -> None:
    _defer(rpc)
    rpc.put(*(rpc.entity("K", i, a=i) for i in range(1, 600)))
    assert not server.storage.write_pending_if_idle(3600)
    assert server.storage.pending
    while server.storage.write_pending_if_idle(0):
        pass
    assert not server.storage.pending
    with contextlib.closing(sqlite3.connect(server.storage.path)) as db:
        assert db.execute("SELECT count(*) FROM entities").fetchone() == (600,)
        assert db.execute("SELECT count(*) FROM log").fetchone() == (0,)


def test_a_file_without_a_log_table_is_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with DatastoreServer(path) as server:
        rpc = Rpc(server.host)
        rpc.put(rpc.entity("K", 1, a=1))
        rpc.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE log")
        db.execute("PRAGMA user_version = 1")
    with DatastoreServer(path) as server:
        rpc = Rpc(server.host)
        _defer(rpc)
        rpc.put(rpc.entity("K", 2, a=1))
        assert idents(rpc.all(query("K", where("a", "=", 1)))) == [1, 2]
        rpc.close()


# --- what is kept in memory ---


@given(
    st.lists(
        st.builds(
            Record,
            st.integers(0, (1 << 32) - 1),
            st.binary(max_size=20),
            st.integers(0, (1 << 64) - 1),
            st.none() | st.binary(max_size=20),
        )
    )
)
def test_records_survive_a_round_trip(records: list[Record]) -> None:
    assert list(decode(encode(records))) == records


def test_a_commit_in_progress_is_invisible_and_can_be_taken_back() -> None:
    pending, place = Pending(), (1, b"x")
    pending.add(5, [Record(1, b"x", 5, b"five")])
    pending.add(6, [Record(1, b"x", 5, b"six"), Record(1, b"y", 6, b"new")])
    assert pending.at([place, (1, b"y")], 5) == {place: State(5, 5, b"five")}
    pending.take_back(6)
    pending.take_back(6)
    assert pending.at([place, (1, b"y")], 9) == {place: State(5, 5, b"five")}
    pending.add(7, [Record(1, b"x", 0, None)])
    pending.drop(1)
    assert pending.at([place], 7) == {place: State(7, 0, None)}
    pending.drop(1)
    assert pending.at([place], 7) == {}
    assert (len(pending), pending.size) == (0, 0)
