"""handle_batch: one call for many entities, each of which lands or fails for itself."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater
from bulkup.core.errors import Exit, UsageError
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill


class Batched(Updater):
    max_failures = -1
    sizes: list[int]
    """Of the batches."""

    def __init__(self) -> None:
        type(self).sizes = []

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_batch(self, entities: list[Entity]) -> None:
        self.sizes.append(len(entities))
        self.work(entities)

    def work(self, entities: list[Entity]) -> None:
        for entity in entities:
            entity["n"] += 1
            self.put(entity)


def numbers(client: Any, kind: str = "Thing") -> list[int]:
    return [entity["n"] for entity in everything(client, kind)]


def test_a_batch_is_one_call(embedded: Server, run: Run) -> None:
    client = fill(embedded, "Thing", 25, n=0)
    report = run(embedded, Batched, batch_size=10)
    assert (report.reason, report.counts.puts) == ("", 25)
    assert numbers(client) == [1] * 25
    assert sum(Batched.sizes) == 25
    assert max(Batched.sizes) == 10


def test_an_entity_that_is_named_fails_alone(embedded: Server, run: Run) -> None:
    class Names(Batched):
        def work(self, entities: list[Entity]) -> None:
            for entity in entities:
                entity["n"] += 1
                self.put(entity)
                if entity["i"] == 3:
                    self.fail(entity, ValueError("no customer"))
                if entity["i"] == 5:
                    self.fail(entity.key, "closed")

    client = fill(embedded, "Thing", 10, n=0)
    report = run(embedded, Names)
    assert report.exit_code == Exit.DONE_WITH_FAILURES
    assert {(f.key, f.error) for f in report.failures} == {
        ("Key('Thing', 3)", "ValueError: no customer"),
        ("Key('Thing', 5)", "closed"),
    }
    assert numbers(client) == [1, 1, 0, 1, 0, 1, 1, 1, 1, 1]
    assert Names.sizes == [10]


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), KeyError("k")], ids=repr)
def test_a_batch_that_raises_is_handled_again_one_by_one(
    embedded: Server, run: Run, error: BaseException
) -> None:
    class Raises(Batched):
        def work(self, entities: list[Entity]) -> None:
            for entity in entities:
                entity["n"] += 1
                self.put(entity)
                if entity["i"] == 4:
                    raise error

    client = fill(embedded, "Thing", 6, n=0)
    report = run(embedded, Raises)
    (failure,) = report.failures
    assert (failure.key, failure.step) == ("Key('Thing', 4)", "handle")
    assert "test_batches.py" in failure.traceback
    assert numbers(client) == [1, 1, 1, 0, 1, 1]
    assert Raises.sizes == [6, 1, 1, 1, 1, 1, 1]
    assert any("handle_batch raised" in line and "self.fail" in line for line in report.warnings)


def test_a_function_whose_batch_raised_is_told_what_a_function_does(
    embedded: Server, run: Run
) -> None:
    @bulkup.updater(kind="Thing", batch=True)
    def halves(things: list[Entity]) -> list[Entity]:
        raise ValueError("all bad")

    fill(embedded, "Thing", 2, n=0)
    report = run(embedded, halves, max_failures=-1)
    assert {failure.error for failure in report.failures} == {"ValueError: all bad"}
    (warning,) = [line for line in report.warnings if "named no entity" in line]
    assert "halves raised ValueError: all bad" in warning
    assert "each of the 2 alone: return an exception as the result of each entity that" in warning


def test_an_entity_named_before_the_batch_raised_stays_failed(embedded: Server, run: Run) -> None:
    class Raises(Batched):
        def work(self, entities: list[Entity]) -> None:
            super().work(entities)
            if len(entities) > 1:
                self.fail(entities[1], "named")
                raise ValueError("all")

    client = fill(embedded, "Thing", 3, n=0)
    report = run(embedded, Raises)
    assert [(f.key, f.error) for f in report.failures] == [("Key('Thing', 2)", "named")]
    assert numbers(client) == [1, 0, 1]
    assert Raises.sizes == [3, 1, 1]
    (warning,) = [line for line in report.warnings if "did not name every entity" in line]
    assert "each of the 2 alone" in warning


def test_a_batch_that_names_all_and_raises_is_not_called_again(embedded: Server, run: Run) -> None:
    class Raises(Batched):
        def work(self, entities: list[Entity]) -> None:
            for entity in entities:
                self.fail(entity, "named")
            raise ValueError("all")

    fill(embedded, "Thing", 3, n=0)
    report = run(embedded, Raises, max_failures=-1)
    assert [failure.error for failure in report.failures] == ["named"] * 3
    assert Raises.sizes == [3]
    assert report.warnings == ()


def test_what_an_entity_writes_lands_or_fails_with_it(embedded: Server, run: Run) -> None:
    class Children(Batched):
        def work(self, entities: list[Entity]) -> None:
            for entity in entities:
                child = Entity(self.client.key("Child"))
                child["of"] = entity["i"]
                note = Entity(self.client.key("Note", entity["i"]))
                self.put(child, note, owner=entity)
                self.delete(self.client.key("Old", entity["i"]), owner=entity.key)
                self.log(f"at {entity['i']}", owner=entity)
                entity["child"] = child.key.id
                self.put(entity)
                if entity["i"] % 3 == 0:
                    self.fail(entity, "no")

    client = fill(embedded, "Thing", 9)
    fill(embedded, "Old", 9)
    report = run(embedded, Children, batch_size=4)
    good = [1, 2, 4, 5, 7, 8]
    assert report.counts.failed == 3
    children = {c.key.id: c["of"] for c in everything(client, "Child")}
    assert sorted(children.values()) == good
    assert [n.key.id for n in everything(client, "Note")] == good
    assert [o.key.id for o in everything(client, "Old")] == [3, 6, 9]
    assert all(
        children[t["child"]] == t["i"] for t in everything(client, "Thing") if t["i"] in good
    )
    assert sorted(report.log_lines) == [f"at {i}" for i in range(1, 10)]


@pytest.mark.client_side
def test_an_entity_that_the_server_refuses_is_the_only_one_that_fails(
    server: Server, run: Run
) -> None:
    class Large(Batched):
        def work(self, entities: list[Entity]) -> None:
            for entity in entities:
                if entity["i"] == 2:
                    entity["text"] = "x" * 2000
                self.put(entity)
                entity["n"] += 1
                self.put(entity)

    client = fill(server, "Thing", 4, n=0)
    report = run(server, Large)
    assert [f.key for f in report.failures] == ["Key('Thing', 2)"]
    assert numbers(client) == [1, 0, 1, 1]


def put_other(u: Updater, entities: list[Entity]) -> None:
    u.put(Entity(u.client.key("Other", 1)))


def delete_other(u: Updater, entities: list[Entity]) -> None:
    u.delete(u.client.key("Other", 1))


def put_new(u: Updater, entities: list[Entity]) -> None:
    u.put(Entity(u.client.key("Other")))


def strange_owner(u: Updater, entities: list[Entity]) -> None:
    u.put(entities[0], owner=u.client.key("Thing", 77))


def fail_other(u: Updater, entities: list[Entity]) -> None:
    u.fail(u.client.key("Thing", 77), "no")


def fail_with_number(u: Updater, entities: list[Entity]) -> None:
    u.fail(entities[0], 3)  # type: ignore[arg-type]


def returns(u: Updater, entities: list[Entity]) -> Any:
    return entities


WRONG = {
    put_other: "Key('Other', 1) is not in this batch, so say to which of its entities the put",
    delete_other: "self.delete(..., owner=entity)",
    put_new: "Key('Other') is not in this batch",
    strange_owner: "owner= takes an entity of this batch, which Key('Thing', 77) is not",
    fail_other: "Key('Thing', 77) has not failed",
    fail_with_number: "fail takes an exception or a string, not a int",
    returns: "handle_batch of Wrong returned a list, which writes nothing",
}


@pytest.mark.parametrize("does", WRONG, ids=lambda does: does.__name__)
def test_what_belongs_to_no_entity_is_refused_with_what_to_write(
    embedded: Server, run: Run, does: Any
) -> None:
    class Wrong(Batched):
        def handle_batch(self, entities: list[Entity]) -> Any:
            return does(self, entities)

    client = fill(embedded, "Thing", 2, n=0)
    report = run(embedded, Wrong)
    assert [WRONG[does] in f.error for f in report.failures] == [True, True], report.failures
    assert everything(client, "Other") == []


def test_no_two_entities_of_a_batch_own_a_write(embedded: Server, run: Run) -> None:
    """They would have to land together. One by one they may count in one counter."""

    errors: list[str] = []

    class Counts(Batched):
        def work(self, entities: list[Entity]) -> None:
            for entity in entities:
                key = self.client.key("Total", 1)
                total = self.client.get(key) or Entity(key)
                total["n"] = total.get("n", 0) + 1
                try:
                    self.put(total, owner=entity)
                except ValueError as error:
                    errors.append(str(error))
                    raise

    client = fill(embedded, "Thing", 5)
    report = run(embedded, Counts)
    assert (report.reason, report.counts.failed) == ("", 0)
    assert numbers(client, "Total") == [5]
    assert "Key('Total', 1) is written for Key('Thing', 1) and for Key('Thing', 2)" in errors[0]


def test_an_entity_of_the_batch_is_not_written_for_another_one(embedded: Server, run: Run) -> None:
    class Pushes(Batched):
        def work(self, entities: list[Entity]) -> None:
            first, *others = entities
            for other in others:
                self.put(other, owner=first)

    fill(embedded, "Thing", 2)
    report = run(embedded, Pushes)
    assert (report.counts.failed, Pushes.sizes) == (0, [2, 1, 1])


@pytest.mark.client_side
def test_what_a_batch_reads_guards_what_it_writes(server: Server, run: Run) -> None:
    """Somebody changes one of the entities that were read: that one's owner is handled again."""
    live = server.client()

    class Bills(Batched):
        raced = False

        def work(self, entities: list[Entity]) -> None:
            keys = [self.client.key("Bill", entity["i"]) for entity in entities]
            bills = {bill.key: bill for bill in self.client.get_multi(keys)}
            if not Bills.raced:
                Bills.raced = True
                theirs = live.get(live.key("Bill", 2))
                theirs["n"] += 100
                live.put(theirs)
                ours = live.get(live.key("Thing", 4))
                ours["n"] += 100
                live.put(ours)
            for entity, key in zip(entities, keys, strict=True):
                bills[key]["n"] += 1
                entity["n"] += 1
                self.put(entity)
                self.put(bills[key], owner=entity)

    client = fill(server, "Thing", 5, n=0)
    fill(server, "Bill", 5, n=0)
    report = run(server, Bills)
    assert (report.counts.failed, report.counts.conflicts) == (0, 2)
    assert numbers(client) == [1, 1, 1, 101, 1]
    assert numbers(client, "Bill") == [1, 101, 1, 1, 1]
    assert Bills.sizes == [5, 1, 1]


def test_a_batch_sees_what_the_one_before_it_has_written(embedded: Server, run: Run) -> None:
    class Chain(Batched):
        """Each batch adds to what the last one left, which may not have landed."""

        def work(self, entities: list[Entity]) -> None:
            key = self.client.key("Total", 1)
            total = self.client.get(key) or Entity(key)
            total["n"] = total.get("n", 0) + len(entities)
            self.put(total, owner=entities[0])
            for entity in entities:
                entity["n"] = total["n"]
                self.put(entity)

    client = fill(embedded, "Thing", 12, n=0)
    report = run(embedded, Chain, batch_size=3, in_flight=4)
    assert (report.counts.failed, report.counts.conflicts) == (0, 0)
    assert numbers(client, "Total") == [12]
    assert numbers(client) == [3] * 3 + [6] * 3 + [9] * 3 + [12] * 3


def test_an_entity_that_an_earlier_batch_has_written_is_handled_as_it_is(
    embedded: Server, run: Run
) -> None:
    class Pushes(Batched):
        def work(self, entities: list[Entity]) -> None:
            here = {entity["i"] for entity in entities}
            for entity in entities:
                entity["n"] += 1
                self.put(entity)
                other = self.client.get(self.client.key("Thing", entity["i"] + 3))
                if other is not None and other["i"] not in here:
                    other["got"] += 1
                    self.put(other, owner=entity)

    client = fill(embedded, "Thing", 9, n=0, got=0)
    report = run(embedded, Pushes, batch_size=3)
    assert (report.reason, report.counts.failed) == ("", 0)
    assert [(t["n"], t["got"]) for t in everything(client, "Thing")] == [(1, 0)] * 3 + [(1, 1)] * 6


def test_a_dry_run_shows_the_same_and_writes_nothing(embedded: Server, run: Run) -> None:
    class Mixed(Batched):
        def work(self, entities: list[Entity]) -> None:
            for entity in entities:
                if entity["i"] == 2:
                    raise ValueError("two")
                entity["n"] += 1
                self.put(entity)
                self.put(Entity(self.client.key("Made", entity["i"])), owner=entity)

    client = fill(embedded, "Thing", 5, n=0)
    dry = run(embedded, Mixed, dry_run=True)
    assert numbers(client) == [0] * 5
    report = run(embedded, Mixed)
    for one in (dry, report):
        assert (one.counts.puts, one.counts.failed) == (8, 1)
        assert [f.error for f in one.failures] == ["ValueError: two"]


@bulkup.updater(kind="Thing", batch=True, max_failures=-1)
def function(entities: list[Entity], *, step: int = 1) -> Any:
    for entity in entities:
        if entity["i"] == 2:
            yield bulkup.delete()
        elif entity["i"] == 3:
            yield ValueError("three")
        elif entity["i"] == 4:
            yield None
        elif entity["i"] == 5:
            other = Entity(bulkup.client().key("Other", 5))
            yield [{"n": step}, other]
        else:
            entity["n"] = step
            yield entity


def test_a_function_returns_one_result_for_each(embedded: Server, run: Run) -> None:
    client = fill(embedded, "Thing", 6, n=0)
    report = run(embedded, function, params={"step": 7})
    (failure,) = report.failures
    assert failure.error.startswith("ValueError: three")
    assert [(t["i"], t["n"]) for t in everything(client, "Thing")] == [
        (1, 7), (3, 0), (4, 0), (5, 7), (6, 7),
    ]  # fmt: skip
    assert len(everything(client, "Other")) == 1


@pytest.mark.parametrize(
    ("result", "said"),
    [([1], "returned 1 for 2 entities"), ({}, "returned a dict"), (5, "returned a int")],
    ids=["too few", "dict", "int"],
)
def test_a_function_that_returns_something_else_is_told_what_to_return(
    embedded: Server, run: Run, result: Any, said: str
) -> None:
    @bulkup.updater(kind="Thing", batch=True, max_failures=-1)
    def wrong(entities: list[Entity]) -> Any:
        return result if len(entities) > 1 or result != [1] else []

    fill(embedded, "Thing", 2)
    report = run(embedded, wrong)
    assert report.counts.failed == 2
    text = report.failures[0].error
    assert "one result for each of its entities, in their order" in text
    assert said.replace("1 for 2", "0 for 1") in text


def test_both_forms_in_one_class_are_refused(embedded: Server, run: Run) -> None:
    class Both(Batched):
        def handle_entity(self, entity: Entity) -> None: ...

    with pytest.raises(UsageError, match="Both has handle_entity and handle_batch"):
        run(embedded, Both)


def test_names_for_a_batch_are_refused_in_handle_entity(embedded: Server, run: Run) -> None:
    class Plain(Updater):
        max_failures = -1

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            if entity["i"] == 1:
                self.put(entity, owner=entity)
            else:
                self.fail(entity, "no")

    fill(embedded, "Thing", 2)
    owner, fail = (f.error for f in run(embedded, Plain).failures)
    assert "owner= is for handle_batch" in owner
    assert "fail is for handle_batch; in handle_entity, raise the error" in fail


def test_a_limit_counts_entities_and_resume_handles_the_others(embedded: Server, run: Run) -> None:
    client = fill(embedded, "Thing", 10, n=0)
    first = run(embedded, Batched, limit=4)
    assert (first.exit_code, first.counts.handled) == (Exit.LIMIT, 4)
    second = run(embedded, Batched)
    assert (second.exit_code, second.counts.handled) == (Exit.DONE, 10)
    assert numbers(client) == [1] * 10
