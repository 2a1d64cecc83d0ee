"""Handlers that change their entity and do not write it: a run of those must not end as done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater
from bulkup.core.errors import Exit
from bulkup.core.events import Report
from bulkup.core.model import RunState
from tests.cli.shell import Shell
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill

pytestmark = [pytest.mark.sampled(5), pytest.mark.client_side]

Handle = Callable[[Any, Entity], None]


def updater(handle: Handle, **attributes: Any) -> type[Updater]:
    def get_query(self: Any) -> Any:
        return self.client.query(kind="Thing")

    return type("Fix", (Updater,), {"get_query": get_query, "handle_entity": handle, **attributes})


def forgets(self: Any, entity: Entity) -> None:
    entity["n"] = entity["i"] + 1


def put_every(nth: int) -> Handle:
    def handle(self: Any, entity: Entity) -> None:
        entity["n"] = 1
        if entity["i"] % nth == 0:
            self.put(entity)

    return handle


def assert_stopped(report: Report, changed: int) -> None:
    assert (report.state, report.exit_code) == (RunState.FAILED, Exit.FAILED), report.reason
    were = "1 entity was" if changed == 1 else f"{changed:,} entities were"
    assert report.reason.startswith(f"{were} changed, and ")
    assert report.counts.unwritten == changed
    assert report.counts.add_up


@pytest.mark.parametrize("count", [1, 7, 3_000])
@pytest.mark.parametrize("dry_run", [False, True], ids=["run", "dry run"])
def test_changes_that_are_never_written_stop_the_run(
    embedded: Server, run: Run, count: int, dry_run: bool
) -> None:
    client = fill(embedded, "Thing", count)
    report = run(embedded, updater(forgets), dry_run=dry_run)
    assert_stopped(report, min(count, 1_000))
    assert report.counts.handled == min(count, 1_000)
    assert "self.put(entity)" in report.reason
    assert "allow_unwritten_changes = True" in report.reason
    assert all("n" not in entity for entity in everything(client, "Thing"))


def test_a_function_that_returns_nothing_is_told_to_return_the_entity(
    embedded: Server, run: Run
) -> None:
    fill(embedded, "Thing", 3)

    @bulkup.updater(kind="Thing")
    def forget(entity: Entity) -> None:
        entity["n"] = 1

    report = run(embedded, forget)
    assert_stopped(report, 3)
    assert "`return entity`" in report.reason
    assert "allow_unwritten_changes=True" in report.reason


@pytest.mark.parametrize("attribute", ["class", "function"])
def test_unwritten_changes_can_be_meant(embedded: Server, run: Run, attribute: str) -> None:
    fill(embedded, "Thing", 3)

    @bulkup.updater(kind="Thing", allow_unwritten_changes=True)
    def scratch(entity: Entity) -> None:
        entity["n"] = 1

    meant: Any = updater(forgets, allow_unwritten_changes=True)
    report = run(embedded, scratch if attribute == "function" else meant)
    assert (report.exit_code, report.warnings) == (Exit.DONE, ())
    assert (report.counts.handled, report.counts.left_alone) == (3, 3)


@pytest.mark.parametrize("batch_size", [1, 10, 500])
@pytest.mark.parametrize("dry_run", [False, True], ids=["run", "dry run"])
def test_some_unwritten_changes_are_a_warning(
    embedded: Server, run: Run, batch_size: int, dry_run: bool
) -> None:
    client = fill(embedded, "Thing", 40)
    report = run(embedded, updater(put_every(20)), batch_size=batch_size, dry_run=dry_run)
    assert report.exit_code is Exit.DONE
    (warning,) = report.warnings
    assert warning.startswith("38 entities were changed, and not written")
    counts = report.counts
    assert (counts.handled, counts.written, counts.left_alone, counts.unwritten) == (40, 2, 38, 38)
    stored = [entity["i"] for entity in everything(client, "Thing") if "n" in entity]
    assert stored == ([] if dry_run else [20, 40])


def test_after_the_fix_resume_writes_every_entity(embedded: Server, run: Run) -> None:
    """Also those that were handled before the run stopped."""
    client = fill(embedded, "Thing", 1_200)
    first = run(embedded, updater(forgets))
    assert_stopped(first, 1_000)

    def fixed(self: Any, entity: Entity) -> None:
        forgets(self, entity)
        self.put(entity)

    second = run(embedded, updater(fixed))
    assert second.run_id == first.run_id
    assert second.exit_code is Exit.DONE
    counts = second.counts
    assert (counts.handled, counts.written, counts.unwritten) == (1_200, 1_200, 0)
    assert all(entity["n"] == entity["i"] + 1 for entity in everything(client, "Thing"))


def test_the_count_continues_through_a_resume(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 30)
    first = run(embedded, updater(put_every(2)), limit=11)
    assert (first.exit_code, first.counts.unwritten) == (Exit.LIMIT, 6)
    second = run(embedded, updater(put_every(2)))
    assert second.run_id == first.run_id
    assert (second.exit_code, second.counts.unwritten) == (Exit.DONE, 15)
    (warning,) = [w for w in second.warnings if "changed, and" in w]
    assert warning.startswith("15 entities")


def test_a_limit_does_not_hide_that_nothing_is_written(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 30)
    assert_stopped(run(embedded, updater(forgets), limit=5), 5)
    assert_stopped(run(embedded, updater(forgets), limit=5, dry_run=True), 5)


# --- what is a change ---


def read_all(self: Any, entity: Entity) -> None:
    assert dict(entity)
    assert entity.exclude_from_indexes == set()
    self.log(str(entity["tags"]) + str(entity["home"]["city"]))


def deletes(self: Any, entity: Entity) -> None:
    entity["n"] = 1
    self.delete(entity)


def deletes_by_key(self: Any, entity: Entity) -> None:
    entity["n"] = 1
    self.delete(entity.key)


def changes_back(self: Any, entity: Entity) -> None:
    name, entity["name"] = entity["name"], "other"
    entity["name"] = name
    entity["tags"].append("x")
    entity["tags"].pop()


def puts_another_object(self: Any, entity: Entity) -> None:
    entity["n"] = 1
    other = Entity(entity.key)
    other.update(entity)
    self.put(other)


def puts_through_its_client(self: Any, entity: Entity) -> None:
    entity["n"] = 1
    self.client.put(entity)


def moves_to_another_key(self: Any, entity: Entity) -> None:
    entity["n"] = 1
    entity.key = self.client.key("Moved", entity.key.id)
    self.put(entity)


def changes_after_deleting(self: Any, entity: Entity) -> None:
    self.put(entity)
    self.delete(entity)
    entity["n"] = 1


def puts_twice(self: Any, entity: Entity) -> None:
    self.put(entity)
    entity["n"] = 1
    entity["tags"].append("x")
    self.put(entity)


@pytest.mark.parametrize(
    "handle",
    [
        read_all,
        deletes,
        deletes_by_key,
        changes_back,
        puts_another_object,
        puts_through_its_client,
        moves_to_another_key,
        changes_after_deleting,
        puts_twice,
    ],
)
def test_this_is_not_an_unwritten_change(embedded: Server, run: Run, handle: Handle) -> None:
    fill(embedded, "Thing", 3, name="Ada", tags=["a"], home=nested)
    report = run(embedded, updater(handle))
    assert (report.exit_code, report.warnings) == (Exit.DONE, ()), report.reason
    assert (report.counts.unwritten, report.counts.handled) == (0, 3)
    assert report.counts.add_up


def nested(i: int) -> Entity:
    entity = Entity()
    entity.update(city="Köln", streets=["A", "B"])
    return entity


def sets_an_equal_value_of_another_type(entity: Entity) -> None:
    entity["i"] = float(entity["i"])


def removes(entity: Entity) -> None:
    del entity["name"]


def adds(entity: Entity) -> None:
    entity["new"] = None


def appends(entity: Entity) -> None:
    entity["tags"].append("x")


def changes_a_nested_entity(entity: Entity) -> None:
    entity["home"]["city"] = "Bonn"


def changes_a_list_in_a_nested_entity(entity: Entity) -> None:
    entity["home"]["streets"].pop()


def changes_the_index_flags(entity: Entity) -> None:
    entity.exclude_from_indexes.add("name")


def changes_the_key(entity: Entity) -> None:
    entity.key = entity.key.completed_key(9) if entity.key.is_partial else entity.key.parent


def sets_what_cannot_be_stored(entity: Entity) -> None:
    entity["scratch"] = object()


CHANGES = [
    sets_an_equal_value_of_another_type,
    removes,
    adds,
    appends,
    changes_a_nested_entity,
    changes_a_list_in_a_nested_entity,
    changes_the_index_flags,
    changes_the_key,
    sets_what_cannot_be_stored,
]


@pytest.mark.parametrize("change", CHANGES)
def test_this_is_an_unwritten_change(
    embedded: Server, run: Run, change: Callable[[Entity], None]
) -> None:
    fill(embedded, "Thing", 2, name="Ada", tags=["a"], home=nested)
    report = run(embedded, updater(lambda self, entity: change(entity)))
    assert_stopped(report, 2)


@pytest.mark.parametrize("before", ["nothing", "value", "removal", "nested", "flags"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_after_the_put_is_unwritten(
    embedded: Server, run: Run, change: Callable[[Entity], None], before: str
) -> None:
    """`before`: what was changed and put: patched in place, or in a copy."""
    fill(embedded, "Thing", 2, name="Ada", tags=["a"], home=nested, old=1)

    def handle(self: Any, entity: Entity) -> None:
        if before == "value":
            entity["old"] = 2
        elif before == "removal":
            del entity["old"]
        elif before == "nested":
            entity["home"]["zip"] = "50667"
        elif before == "flags":
            entity.exclude_from_indexes.add("old")
        self.put(entity)
        change(entity)

    assert_stopped(run(embedded, updater(handle)), 2)


def test_what_a_generator_changes_after_it_has_yielded_the_entity_is_unwritten(
    embedded: Server, run: Run
) -> None:
    client = fill(embedded, "Thing", 4)

    @bulkup.updater(kind="Thing")
    def late(entity: Entity) -> Any:
        entity["n"] = 1
        yield entity
        if entity["i"] < 4:
            entity["n"] = 2

    report = run(embedded, late)
    assert (report.exit_code, report.counts.unwritten, report.counts.written) == (Exit.DONE, 3, 4)
    assert [entity["n"] for entity in everything(client, "Thing")] == [1, 1, 1, 1]


def test_the_changes_of_a_failed_call_do_not_count(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 5)

    def handle(self: Any, entity: Entity) -> None:
        entity["n"] = 1
        raise ValueError("no")

    report = run(embedded, updater(handle), max_failures=-1)
    assert report.exit_code is Exit.DONE_WITH_FAILURES
    assert (report.counts.handled, report.counts.failed, report.counts.unwritten) == (5, 5, 0)


def test_writes_to_other_entities_wait_until_a_changed_one_is_written(
    embedded: Server, run: Run
) -> None:
    """Nothing of the stopped entities is written, so handling them again writes nothing twice."""
    client = fill(embedded, "Thing", 30)

    def handle(self: Any, entity: Entity) -> None:
        entity["n"] = 1
        self.put(Entity(self.client.key("Log", entity.key.id)))

    report = run(embedded, updater(handle), batch_size=10)
    assert_stopped(report, 30)
    assert not everything(client, "Log")


def test_a_counter_is_not_counted_twice_after_the_fix(embedded: Server, run: Run) -> None:
    client = fill(embedded, "Thing", 9)

    def count(self: Any, entity: Entity) -> None:
        key = self.client.key("Counter", 1)
        counter = self.client.get(key) or Entity(key)
        counter["n"] = counter.get("n", 0) + 1
        self.put(counter)
        entity["n"] = 1

    def fixed(self: Any, entity: Entity) -> None:
        count(self, entity)
        self.put(entity)

    report = run(embedded, updater(count))
    assert (report.exit_code, report.counts.written) == (Exit.FAILED, 0)
    assert run(embedded, updater(fixed)).exit_code is Exit.DONE
    (counter,) = everything(client, "Counter")
    assert counter["n"] == 9
    assert all(entity["n"] == 1 for entity in everything(client, "Thing"))


# --- elsewhere ---


@bulkup.updater(kind="Thing")
def forgets_in_a_worker(entity: Entity, *, every: int = 0) -> Any:
    entity["n"] = 1
    return entity if every and entity["i"] % every == 0 else None


def test_worker_processes_find_unwritten_changes(embedded: Server, run: Run) -> None:
    client = fill(embedded, "Thing", 60)
    report = run(embedded, forgets_in_a_worker, processes=2)
    assert_stopped(report, 60)
    report = run(embedded, forgets_in_a_worker, params={"every": 20}, processes=2)
    counts = report.counts
    assert (report.exit_code, counts.unwritten, counts.written) == (Exit.DONE, 57, 3)
    assert sum("n" in entity for entity in everything(client, "Thing")) == 3


def test_a_migration_that_writes_none_of_its_changes_is_not_applied(
    tmp_path: Path, embedded: Server
) -> None:
    fill(embedded, "Item", 5)
    shell = Shell(tmp_path, embedded)
    source = """
        import bulkup

        @bulkup.updater(kind="Item")
        def add_n(entity):
            entity["n"] = 1
    """
    path = shell.write("migrations/0001_add_n.py", source)
    result = shell.bulkup("migrate", "migrations")
    assert result.code == 1, result
    assert (
        "5 entities were changed, and none of these changes was written" in result.err + result.out
    )
    assert shell.bulkup("status", "migrations", "--check").code == 4
    path.write_text(path.read_text() + "    return entity\n")
    assert shell.bulkup("migrate", "migrations").code == 0
    assert all(e["n"] == 1 for e in everything(embedded.client(), "Item"))
    assert shell.bulkup("status", "migrations", "--check").code == 0


def test_show_repeats_what_the_stopped_run_said(tmp_path: Path, embedded: Server) -> None:
    fill(embedded, "Thing", 3)
    shell = Shell(tmp_path, embedded)
    shell.write(
        "up.py",
        """
        import bulkup

        @bulkup.updater(kind="Thing")
        def forget(entity):
            entity["n"] = 1
        """,
    )
    ran = shell.bulkup("run", "up.py")
    assert ran.code == 1, ran
    run_id = next(line.split()[1] for line in ran.out.splitlines() if line.startswith("  Run "))
    shown = shell.bulkup("show", run_id)
    for line in ("  Handled      3", "  Left alone   3", "  Not written  3"):
        assert line in ran.out
        assert line in shown.out
    assert "write `return entity`" in shown.out


@pytest.mark.parametrize("command", ["run", "show"])
def test_the_report_says_that_none_of_them_counts_as_done(
    embedded: Server, tmp_path: Path, command: str
) -> None:
    fill(embedded, "Thing", 5)
    shell = Shell(tmp_path, embedded)
    shell.write(
        "forgets.py",
        """
        import bulkup

        @bulkup.updater(kind="Thing")
        def forgets(entity):
            entity["n"] = 1
        """,
    )
    result = shell.bulkup("run", "forgets.py")
    assert result.code == Exit.FAILED
    if command == "show":
        result = shell.bulkup("show")
    out = " ".join(result.out.split())
    assert (
        "None of the 5 entities that were handled counts as done: after the fix, resuming handles "
        "them again and writes nothing twice."
    ) in out
    assert "5 of 5 (100%), none done" in out
    assert "entities that are left" not in out
