"""Transactions: snapshots, conflicts and phantoms, ends and expiry."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from bulkup.local import messages as m
from bulkup.local.process import start_local
from bulkup.local.server import DatastoreServer
from bulkup.local.storage import Storage
from tests.local.rpc import Rpc, both, idents, query, refused, where

ABORTED = grpc.StatusCode.ABORTED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXPIRED = "The referenced transaction has expired or is no longer valid."


def upsert(entity: Any) -> Any:
    return m.Mutation(upsert=entity)


def test_a_transaction_reads_the_state_at_its_beginning(rpc: Rpc) -> None:
    rpc.put(*(rpc.entity("K", i, a=1) for i in (1, 2, 3)))
    before = rpc.all(query(order=["a"]))
    transaction = rpc.begin()
    rpc.put(rpc.entity("K", 1, a=5), rpc.entity("K", 4, a=1))
    rpc.delete(rpc.key("K", 2))
    assert rpc.all(query(order=["a"]), transaction) == before
    assert idents(rpc.all(query("K", where("a", "=", 1)), transaction)) == [1, 2, 3]
    assert idents(rpc.all(query(None), transaction)) == [1, 2, 3]
    found = rpc.lookup(*(rpc.key("K", i) for i in range(1, 5)), transaction=transaction)
    assert sorted(idents(found.found)) == [1, 2, 3]
    assert all(one.entity.properties["a"].integer_value == 1 for one in found.found)
    assert idents(found.missing) == [4]
    assert idents(rpc.all(query(order=["a"]))) == [3, 4, 1]


def test_a_transaction_does_not_read_its_own_writes(rpc: Rpc) -> None:
    transaction = rpc.begin()
    assert rpc.get(rpc.key("K", 1), transaction) is None
    answer = rpc.commit([upsert(rpc.entity("K", 1))], transaction=transaction)
    found = rpc.get(rpc.key("K", 1))
    assert found is not None
    assert found.update_time == answer.commit_time


@pytest.mark.parametrize("outside", ["change", "delete", "insert", "recreate"])
def test_a_changed_lookup_aborts(rpc: Rpc, outside: str) -> None:
    key = rpc.key("K", 1)
    if outside != "insert":
        rpc.put(rpc.entity("K", 1, a=1))
    transaction = rpc.begin()
    rpc.get(key, transaction)
    if outside in ("delete", "recreate"):
        rpc.delete(key)
    if outside != "delete":
        rpc.put(rpc.entity("K", 1, a=1 if outside == "recreate" else 2))
    code, text = refused(rpc.commit, [upsert(rpc.entity("K", 9))], transaction=transaction)
    assert code == ABORTED
    assert "too much contention" in text
    assert rpc.get(rpc.key("K", 9)) is None


def test_changes_to_unread_entities_do_not_abort_a_transaction(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 1, a=1), rpc.entity("K", 2, a=1))
    transaction = rpc.begin()
    rpc.get(rpc.key("K", 1), transaction)
    rpc.put(rpc.entity("K", 2, a=2))
    # Writing the same content again is not a change.
    rpc.put(rpc.entity("K", 1, a=1))
    rpc.commit([upsert(rpc.entity("K", 2, a=3))], transaction=transaction)


EQUAL = where("a", "=", 1)


@pytest.mark.parametrize(
    ("asked", "outside", "conflict"),
    [
        (query("K", EQUAL), ("put", 9, {"a": 1}), True),
        (query("K", EQUAL), ("put", 9, {"a": 2}), False),
        (query("K", EQUAL), ("put", 1, {"a": 2}), True),
        (query("K", EQUAL), ("put", 1, {"a": 1, "z": 1}), True),
        (query("K", EQUAL), ("put", 2, {"a": 1}), True),
        (query("K", EQUAL), ("put", 2, {"a": 3}), False),
        (query("K", EQUAL), ("delete", 1, None), True),
        (query("K", EQUAL), ("delete", 2, None), False),
        (query("K", EQUAL), ("other kind", 1, {"a": 1}), False),
        (query("K"), ("put", 9, {}), True),
        (query("K"), ("other kind", 9, {}), False),
        (query(None), ("other kind", 9, {}), True),
        (query("K", order=["-a"], limit=1), ("put", 9, {"a": 1}), False),
        (query("K", order=["-a"], limit=1), ("put", 9, {"a": 7}), True),
        (query("K", order=["-a"], limit=1), ("put", 1, {"a": 7}), True),
        (query("K", limit=2), ("put", 3, {"a": 7}), False),
        (query("K", limit=2), ("put", 2, {"a": 7}), True),
        (query("K", offset=2, limit=1), ("delete", 1, None), True),
        (query("K", both(EQUAL, where("b", ">", 0))), ("put", 4, {"a": 1, "b": 1}), True),
        (query("K", both(EQUAL, where("b", ">", 0))), ("put", 4, {"a": 1, "b": 0}), False),
        (query("K", where("a", "in", [1, 5])), ("put", 9, {"a": 5}), True),
        (query("None"), ("new kind", 1, {"a": 1}), True),
    ],
)
def test_a_query_conflicts_with_entities_that_enter_leave_or_change_in_its_range(
    rpc: Rpc, asked: Any, outside: tuple[str, int, Any], conflict: bool
) -> None:
    rpc.put(*(rpc.entity("K", i, a=i, b=i) for i in (1, 2, 3, 4)))
    transaction = rpc.begin()
    rpc.run(asked, transaction)
    what, ident, properties = outside
    if what == "delete":
        rpc.delete(rpc.key("K", ident))
    else:
        kind = {"put": "K", "other kind": "L", "new kind": "None"}[what]
        rpc.put(rpc.entity(kind, ident, **properties))
    mutation = [upsert(rpc.entity("Result", 1))]
    if conflict:
        assert refused(rpc.commit, mutation, transaction=transaction)[0] == ABORTED
    else:
        rpc.commit(mutation, transaction=transaction)


def test_a_count_conflicts_like_its_query(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 1, a=1))
    transaction = rpc.begin()
    request = m.RunAggregationQueryRequest()
    request.partition_id.project_id = rpc.project
    request.read_options.transaction = transaction
    request.aggregation_query.nested_query.CopyFrom(query("K", EQUAL))
    request.aggregation_query.aggregations.add().count.SetInParent()
    rpc.call("RunAggregationQuery", request)
    rpc.put(rpc.entity("K", 2, a=1))
    code, _ = refused(rpc.commit, [upsert(rpc.entity("K", 3))], transaction=transaction)
    assert code == ABORTED


def test_of_two_transactions_that_read_the_same_the_first_commits(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 1, a=1))
    one, other = rpc.begin(), rpc.begin()
    rpc.get(rpc.key("K", 1), one)
    rpc.get(rpc.key("K", 1), other)
    rpc.commit([upsert(rpc.entity("K", 1, a=2))], transaction=one)
    assert refused(rpc.commit, [upsert(rpc.entity("K", 1, a=3))], transaction=other)[0] == ABORTED
    found = rpc.get(rpc.key("K", 1))
    assert found is not None
    assert found.entity == rpc.entity("K", 1, a=2)


def test_a_forgotten_transaction_blocks_nobody(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 1, a=1))
    forgotten = rpc.begin()
    rpc.run(query(), forgotten)
    rpc.commit([upsert(rpc.entity("K", 1, a=2))], transactional=False, timeout=2)


def test_a_commit_ends_its_transaction_even_when_it_fails(rpc: Rpc) -> None:
    transaction = rpc.begin()
    rpc.commit([], transaction=transaction)
    for call in (rpc.commit, rpc.run, rpc.get):
        arguments: Any = {
            rpc.commit: ([],),
            rpc.run: (query(),),
            rpc.get: (rpc.key("K", 1),),
        }[call]
        assert refused(call, *arguments, transaction=transaction) == (INVALID, EXPIRED)
    # What a client does after a failed commit must not hide why that failed.
    rpc.rollback(transaction)


def test_a_rollback_ends_the_transaction(rpc: Rpc) -> None:
    transaction = rpc.begin()
    rpc.rollback(transaction)
    rpc.rollback(transaction)
    assert refused(rpc.commit, [], transaction=transaction) == (INVALID, EXPIRED)


@pytest.mark.parametrize("bad", [b"garbage", b"\x00" * 16, b"x" * 300])
def test_invalid_transaction_ids_are_refused(rpc: Rpc, bad: bytes) -> None:
    assert refused(rpc.commit, [], transaction=bad) == (INVALID, EXPIRED)
    assert refused(rpc.rollback, bad) == (INVALID, EXPIRED)
    assert refused(rpc.get, rpc.key("K", 1), bad) == (INVALID, EXPIRED)
    request = m.BeginTransactionRequest()
    request.transaction_options.read_write.previous_transaction = bad
    assert refused(rpc.call, "BeginTransaction", request) == (INVALID, EXPIRED)
    request.transaction_options.read_write.previous_transaction = rpc.begin()
    assert rpc.call("BeginTransaction", request).transaction


def test_a_read_only_transaction_reads_a_snapshot_and_writes_nothing(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 1, a=1))
    transaction = rpc.begin(read_only=True)
    first = rpc.get(rpc.key("K", 1), transaction)
    rpc.put(rpc.entity("K", 1, a=2))
    assert rpc.get(rpc.key("K", 1), transaction) == first
    rpc.commit([], transaction=transaction)
    transaction = rpc.begin(read_only=True)
    code, text = refused(rpc.commit, [upsert(rpc.entity("K", 2))], transaction=transaction)
    assert (code, text) == (INVALID, "Cannot modify entities in a read-only transaction.")


def test_a_read_only_transaction_may_read_the_past(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 1, a=1))
    moment = rpc.run(query()).read_time
    rpc.put(rpc.entity("K", 1, a=2))
    request = m.BeginTransactionRequest()
    request.transaction_options.read_only.read_time.CopyFrom(moment)
    transaction = rpc.call("BeginTransaction", request).transaction
    found = rpc.get(rpc.key("K", 1), transaction)
    assert found is not None
    assert found.entity == rpc.entity("K", 1, a=1)


def test_a_read_can_begin_the_transaction(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 1, a=1))
    request = m.LookupRequest(keys=[rpc.key("K", 1)])
    request.read_options.new_transaction.read_write.SetInParent()
    transaction = rpc.call("Lookup", request).transaction
    rpc.put(rpc.entity("K", 1, a=2))
    assert refused(rpc.commit, [upsert(rpc.entity("K", 2))], transaction=transaction)[0] == ABORTED
    asked = m.RunQueryRequest(query=query())
    asked.partition_id.project_id = rpc.project
    asked.read_options.new_transaction.read_write.SetInParent()
    begun = rpc.call("RunQuery", asked)
    assert idents(begun.batch.entity_results) == [1]
    rpc.commit([upsert(rpc.entity("K", 2))], transaction=begun.transaction)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mode": 1}, "transactional commit requires a transaction"),
        (
            {"mode": 2, "single_use_transaction": {"read_write": {}}},
            "non-transaction commit cannot specify a transaction",
        ),
        ({"mode": 1, "single_use_transaction": {"read_only": {}}}, "must be READ_WRITE"),
    ],
)
def test_invalid_commits_are_refused(rpc: Rpc, fields: Any, words: str) -> None:
    code, text = refused(rpc.call, "Commit", m.CommitRequest(**fields))
    assert code == INVALID
    assert words in text


@pytest.mark.parametrize(
    ("nanos", "seconds", "status", "words"),
    [
        (1, 0, INVALID, "microsecond"),
        (0, 100, INVALID, "future"),
        (0, -3700, grpc.StatusCode.FAILED_PRECONDITION, "too old"),
    ],
)
def test_read_times_out_of_range_are_refused(
    rpc: Rpc, nanos: int, seconds: int, status: grpc.StatusCode, words: str
) -> None:
    moment = rpc.run(query()).read_time
    moment.seconds += seconds
    moment.nanos = moment.nanos // 1000 * 1000 + nanos
    code, text = refused(rpc.run, query(), read_options=m.ReadOptions(read_time=moment))
    assert code == status
    assert words in text


def test_eventual_reads_are_answered_without_a_read_time(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 1))
    options = m.ReadOptions(read_consistency=m.ReadOptions.EVENTUAL)
    batch = rpc.run(query(), read_options=options)
    assert idents(batch.entity_results) == [1]
    assert not batch.HasField("read_time")
    strong = m.ReadOptions(read_consistency=m.ReadOptions.STRONG)
    assert rpc.run(query(), read_options=strong).HasField("read_time")


@pytest.mark.parametrize(
    ("step_s", "steps", "alive"), [(59, 4, True), (61, 1, False), (50, 6, False)]
)
def test_transactions_expire(tmp_path: Path, step_s: int, steps: int, alive: bool) -> None:
    """After 60 s without use, and 270 s after they began."""
    now = [1_900_000_000_000_000]
    storage = Storage(tmp_path / "db", clock=lambda: now[0])
    with DatastoreServer(tmp_path / "db", storage=storage) as server:
        rpc = Rpc(server.host)
        transaction = rpc.begin()
        for _ in range(steps - 1):
            now[0] += step_s * 10**6
            rpc.get(rpc.key("K", 1), transaction)
        now[0] += step_s * 10**6
        if alive:
            rpc.commit([upsert(rpc.entity("K", 1))], transaction=transaction)
        else:
            assert refused(rpc.commit, [], transaction=transaction) == (INVALID, EXPIRED)
        rpc.close()


@pytest.mark.parametrize("increments", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_eight_clients_counting_together_lose_no_increment(tmp_path: Path, increments: int) -> None:
    clients = 8
    with start_local(tmp_path / "db") as server:
        setup = Rpc(server.host)
        setup.put(setup.entity("Counter", 1, n=0))
        failures: list[BaseException] = []
        aborted = [0] * clients

        def count(number: int) -> None:
            rpc = Rpc(server.host)
            try:
                for _ in range(increments):
                    while True:
                        transaction = rpc.begin()
                        found = rpc.get(rpc.key("Counter", 1), transaction)
                        assert found is not None
                        found.entity.properties["n"].integer_value += 1
                        try:
                            rpc.commit([upsert(found.entity)], transaction=transaction)
                            break
                        except grpc.RpcError as error:
                            if error.code() != ABORTED:
                                raise
                            aborted[number] += 1
            except BaseException as error:
                failures.append(error)
            finally:
                rpc.close()

        threads = [threading.Thread(target=count, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        found = setup.get(setup.key("Counter", 1))
        assert found is not None
        assert found.entity.properties["n"].integer_value == clients * increments
        # There were conflicts; otherwise this test would prove nothing.
        assert sum(aborted) > 0
        setup.close()
