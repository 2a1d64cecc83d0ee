"""Handlers that write through self.client and then put the same entity: refused, unless what they
write changes nothing the second time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from google.cloud.datastore import Entity

from bulkup import Updater
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill


class Twice(Updater):
    max_failures = -1
    numbers = itertools.count()

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def in_transaction(self, key: Any) -> None:
        with self.client.transaction() as transaction:
            found = self.client.get(key, transaction=transaction) or Entity(key)
            found["through"] = found.get("through", 0) + 1
            transaction.put(found)

    def at_once(self, key: Any) -> None:
        found = Entity(key)
        found["through"] = next(self.numbers)
        self.client.put(found)


def put_after(u: Twice, entity: Entity) -> None:
    u.in_transaction(entity.key)
    entity["n"] = 1
    u.put(entity)


def put_before(u: Twice, entity: Entity) -> None:
    entity["n"] = 1
    u.put(entity)
    u.at_once(entity.key)


def delete_after(u: Twice, entity: Entity) -> None:
    u.in_transaction(entity.key)
    u.delete(entity)


def put_what_was_read_again(u: Twice, entity: Entity) -> None:
    u.at_once(entity.key)
    fresh = u.client.get(entity.key)
    fresh["n"] = 1
    u.put(fresh)


def make_what_was_absent(u: Twice, entity: Entity) -> None:
    key = u.client.key("Other", entity.key.id)
    u.client.get(key)  # absent, the first time
    u.in_transaction(key)
    u.put(Entity(key))


WRONG = [put_after, put_before, delete_after, put_what_was_read_again, make_what_was_absent]


@pytest.mark.parametrize("does", WRONG, ids=lambda does: does.__name__)
def test_what_a_handler_writes_through_its_client_and_puts_is_said_soon(
    server: Server, run: Run, does: Callable[[Twice, Entity], None]
) -> None:
    calls: list[int] = []

    class Wrong(Twice):
        def handle_entity(self, entity: Entity) -> None:
            calls.append(entity.key.id)
            does(self, entity)

    fill(server, "Thing", 2)
    report = run(server, Wrong)
    assert report.counts.failed == 2
    assert sorted(calls) == [1, 1, 2, 2]
    for failure in report.failures:
        assert "through its client" in failure.error
        assert "contended" not in failure.error
        assert ("Other" if does is make_what_was_absent else "Thing") in failure.error


def test_a_write_through_the_client_that_changes_nothing_the_second_time_is_allowed(
    server: Server, run: Run
) -> None:
    class Right(Twice):
        def handle_entity(self, entity: Entity) -> None:
            with self.client.transaction():
                found = self.client.get(entity.key)
                found["checked"] = True
                self.client.put(found)
            entity["checked"] = True
            entity["n"] = 1
            self.put(entity)

    client = fill(server, "Thing", 3)
    report = run(server, Right)
    assert (report.reason, report.counts.failed) == ("", 0)
    assert [e["n"] for e in everything(client, "Thing")] == [1, 1, 1]
    assert [e["checked"] for e in everything(client, "Thing")] == [True] * 3


def test_another_entity_may_be_written_through_the_client(server: Server, run: Run) -> None:
    class Right(Twice):
        def handle_entity(self, entity: Entity) -> None:
            other = self.client.key("Other", entity.key.id)
            self.in_transaction(other)
            entity["n"] = 1
            third = self.client.key("Third", entity.key.id)
            self.at_once(third)
            found = self.client.get(third)  # read after it was written, so this is its version
            found["n"] = 2
            self.put(entity, found)

    client = fill(server, "Thing", 3)
    report = run(server, Right)
    assert (report.reason, report.counts.failed, report.counts.conflicts) == ("", 0, 0)
    assert [e["n"] for e in everything(client, "Thing")] == [1, 1, 1]
    assert [e["through"] for e in everything(client, "Other")] == [1] * 3
    assert [e["n"] for e in everything(client, "Third")] == [2, 2, 2]


def test_what_an_earlier_call_wrote_through_the_client_may_be_put(server: Server, run: Run) -> None:
    class Right(Twice):
        def handle_entity(self, entity: Entity) -> None:
            if entity.key.id == 1:
                self.at_once(self.client.key("Other", 1))
            else:
                other = self.client.get(self.client.key("Other", 1))
                other["n"] = other.get("n", 0) + 1
                self.put(other)

    client = fill(server, "Thing", 3)
    report = run(server, Right)
    assert (report.reason, report.counts.failed) == ("", 0)
    assert [e["n"] for e in everything(client, "Other")] == [2]
