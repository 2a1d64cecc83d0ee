"""Transactions: what they read, what they conflict with, and when they end.

They run one after another where FS would wait for a lock: how long it waits is up to each server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.local.differential.answers import say_entity
from tests.local.differential.build import Place, delete, query, update, upsert, where
from tests.local.differential.compare import Answer, Exchange, Judge
from tests.local.differential.wire import REQUESTS, Reply, Wire


class Teller:
    """One server, whose answers are recorded."""

    def __init__(self, wire: Wire, place: Place) -> None:
        self.wire = wire
        self.place = place
        self.said: list[str] = []

    def _note(self, what: str, reply: Reply, *facts: str) -> None:
        self.said.append(f"{what}: {reply.code} {' '.join(facts)}".rstrip())

    def begin(self, *, read_only: bool = False, retry: bytes = b"") -> bytes:
        request = REQUESTS["BeginTransaction"](project_id=self.place.project)
        if read_only:
            request.transaction_options.read_only.SetInParent()
        if retry:
            request.transaction_options.read_write.previous_transaction = retry
        reply = self.wire.call("BeginTransaction", request)
        self._note("begin", reply)
        return bytes(reply.body.transaction) if reply.body else b""

    def lookup(self, *path: str | int, transaction: bytes = b"", new: bool = False) -> bytes:
        request = REQUESTS["Lookup"](project_id=self.place.project, keys=[self.place.key(*path)])
        if transaction:
            request.read_options.transaction = transaction
        if new:
            request.read_options.new_transaction.read_write.SetInParent()
        reply = self.wire.call("Lookup", request)
        found = [say_entity(r.entity) for r in reply.body.found] if reply.body else []
        self._note("lookup", reply, *found)
        return bytes(reply.body.transaction) if reply.body else b""

    def query(self, asked: Any, transaction: bytes = b"", *, new: bool = False) -> bytes:
        request = REQUESTS["RunQuery"](
            project_id=self.place.project, partition_id=self.place.partition(), query=asked
        )
        if transaction:
            request.read_options.transaction = transaction
        if new:
            request.read_options.new_transaction.read_only.SetInParent()
        reply = self.wire.call("RunQuery", request)
        rows = [say_entity(r.entity) for r in reply.body.batch.entity_results] if reply.body else []
        self._note("query", reply, *rows)
        return bytes(reply.body.transaction) if reply.body else b""

    def commit(self, transaction: bytes, *mutations: Any) -> None:
        request = REQUESTS["Commit"](
            project_id=self.place.project, mode=1, transaction=transaction, mutations=mutations
        )
        self._note("commit", self.wire.call("Commit", request))

    def end(self, transaction: bytes) -> None:
        """Commit a read-only transaction."""
        request = REQUESTS["Commit"](project_id=self.place.project, mode=1, transaction=transaction)
        self._note("end", self.wire.call("Commit", request))

    def put(self, *mutations: Any) -> None:
        request = REQUESTS["Commit"](project_id=self.place.project, mode=2, mutations=mutations)
        self._note("put", self.wire.call("Commit", request))

    def rollback(self, transaction: bytes) -> None:
        request = REQUESTS["Rollback"](project_id=self.place.project, transaction=transaction)
        self._note("rollback", self.wire.call("Rollback", request))

    def entity(self, number: int, plain: Any) -> Any:
        return self.place.entity(("K", number), {"p": plain})


def _same(judge: Judge, place: Place, tell: Callable[[Teller], None]) -> None:
    said: list[Answer] = []
    for wire in judge.both():
        teller = Teller(wire, place)
        teller.put(*(upsert(teller.entity(i, i)) for i in range(1, 5)))
        tell(teller)
        teller.query(query("K"))
        said.append(tuple(teller.said))
    judge.check(Exchange(judge.ours, judge.theirs, place, "Story", tell.__name__, *said))


def test_read_change_commit(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    def tell(t: Teller) -> None:
        one = t.begin()
        t.lookup("K", 1, transaction=one)
        t.query(query("K", filter=where("p", ">", 2)), one)
        t.commit(one, upsert(t.entity(1, "new")), delete(t.place.key("K", 2)))

    _same(beside_fs, fresh(), tell)


def test_a_transaction_does_not_see_later_writes(
    beside_fs: Judge, fresh: Callable[[], Place]
) -> None:
    def tell(t: Teller) -> None:
        one = t.begin(read_only=True)
        t.lookup("K", 1, transaction=one)
        t.put(upsert(t.entity(1, "later")), upsert(t.entity(9, "later")))
        t.lookup("K", 1, transaction=one)
        t.query(query("K"), one)
        t.end(one)

    _same(beside_fs, fresh(), tell)


def test_a_new_transaction_in_a_query(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    def tell(t: Teller) -> None:
        one = t.query(query("K"), new=True)
        t.put(upsert(t.entity(2, "later")))
        t.query(query("K"), one)
        t.rollback(one)

    _same(beside_fs, fresh(), tell)


def test_a_new_transaction_in_a_lookup(beside_lf: Judge, fresh: Callable[[], Place]) -> None:
    """Compared with LF: FS locks what such a lookup read, and aborts the commit."""

    def tell(t: Teller) -> None:
        one = t.lookup("K", 1, new=True)
        t.commit(one, update(t.entity(1, "new")))

    _same(beside_lf, fresh(), tell)


def test_blind_writes_do_not_conflict(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    def tell(t: Teller) -> None:
        one, two = t.begin(), t.begin()
        t.commit(two, upsert(t.entity(1, "two")))
        t.commit(one, upsert(t.entity(1, "one")))

    _same(beside_fs, fresh(), tell)


def test_two_transactions_on_different_entities(
    beside_fs: Judge, fresh: Callable[[], Place]
) -> None:
    def tell(t: Teller) -> None:
        one, two = t.begin(), t.begin()
        t.lookup("K", 1, transaction=one)
        t.lookup("K", 2, transaction=two)
        t.commit(one, update(t.entity(1, "one")))
        t.commit(two, update(t.entity(2, "two")))

    _same(beside_fs, fresh(), tell)


def test_one_transaction_reads_what_another_writes(
    beside_lf: Judge, fresh: Callable[[], Place]
) -> None:
    """Optimistic, like LF: a transaction is refused if what it read has changed."""

    def tell(t: Teller) -> None:
        one = t.begin()
        t.lookup("K", 1, transaction=one)
        t.put(upsert(t.entity(1, "between")))
        t.commit(one, update(t.entity(1, "one")))
        two = t.begin()
        t.lookup("K", 3, transaction=two)
        t.put(upsert(t.entity(3, "between")))
        t.commit(two, update(t.entity(4, "two")))

    _same(beside_lf, fresh(), tell)


def test_a_transaction_that_has_ended(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    def committed(t: Teller) -> None:
        one = t.begin()
        t.commit(one, upsert(t.entity(1, "one")))
        t.commit(one, upsert(t.entity(1, "again")))
        t.lookup("K", 1, transaction=one)
        t.query(query("K"), one)
        t.rollback(one)

    def rolled_back(t: Teller) -> None:
        one = t.begin()
        t.lookup("K", 1, transaction=one)
        t.rollback(one)
        t.commit(one, upsert(t.entity(1, "late")))
        t.lookup("K", 1, transaction=one)
        t.rollback(one)

    def failed(t: Teller) -> None:
        one = t.begin()
        t.commit(one, update(t.entity(77, "not there")))
        t.commit(one, upsert(t.entity(1, "again")))

    for tell in (committed, rolled_back, failed):
        _same(beside_fs, fresh(), tell)


def test_writing_in_a_read_only_transaction(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    def tell(t: Teller) -> None:
        one = t.begin(read_only=True)
        t.commit(one, upsert(t.entity(1, "one")))
        two = t.begin(read_only=True)
        t.end(two)
        three = t.begin(read_only=True)
        t.rollback(three)

    _same(beside_fs, fresh(), tell)


def test_invalid_transaction_ids(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    def tell(t: Teller) -> None:
        for name in (b"x", b"\0" * 30):
            t.lookup("K", 1, transaction=name)
            t.query(query("K"), name)
            t.commit(name, upsert(t.entity(1, "no")))
            t.rollback(name)
        t.begin(retry=b"x")
        one = t.begin()
        t.rollback(one)
        t.begin(retry=one)

    _same(beside_fs, fresh(), tell)


def test_ancestors_and_phantoms(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    def tell(t: Teller) -> None:
        t.put(upsert(t.place.entity(("K", 1, "L", 1), {"p": 1})))
        one = t.begin()
        t.query(query("L", filter=where("__key__", "under", t.place.key("K", 1))), one)
        t.commit(one, upsert(t.place.entity(("K", 1, "L", 2), {"p": 2})))
        t.query(query("L"))

    _same(beside_fs, fresh(), tell)
