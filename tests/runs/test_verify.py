"""What `bulkup verify` takes for done, and that it writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore
from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater
from bulkup.core.errors import Exit, UsageError
from bulkup.core.model import RunState
from tests.cli.shell import contents
from tests.conftest import Server
from tests.engine.conftest import fill
from tests.runs.conftest import Verify, double, keys_of, named


def test_what_a_run_has_done_is_clean_and_what_was_planted_is_named(
    server: Server, check: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(server, "Thing", 60)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    assert bulkup.run(double, project=server.project, state_dir=tmp_path / "s").success
    clean = check(server, double)
    assert (clean.exit_code, clean.counts.handled, clean.counts.failed) == (Exit.DONE, 60, 0)
    wrong, without = (client.get(client.key("Thing", i)) for i in (7, 9))
    wrong["twice"] = 1
    del without["twice"]
    client.put_multi([wrong, without])
    report = check(server, double)
    assert report.exit_code is Exit.PENDING
    assert report.state is RunState.FINISHED
    assert report.counts.failed == 2
    (group,) = report.failure_groups
    assert group.error == "a second handling would change twice"
    assert set(group.keys) == named(7, 9)
    assert report.verification is not None
    assert not report.verification.by_is_done


def test_findings_are_grouped_by_the_properties_that_would_change(
    embedded: Server, check: Verify
) -> None:
    fill(embedded, "Thing", 12, line1="x", line2="y")

    class Fix(Updater):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            if entity["i"] % 4 == 0:
                raise ValueError(f"no {entity['i']}")
            if entity["i"] % 4 == 1:
                self.delete(entity)
                return
            entity[f"line{entity['i'] % 4 - 1}"] = None
            self.put(entity)

    report = check(embedded, Fix)
    assert sorted((group.step, group.error, group.count) for group in report.failure_groups) == [
        ("handle", "ValueError: no 4", 3),
        ("verify", "a second handling would change line1", 3),
        ("verify", "a second handling would change line2", 3),
        ("verify", "a second handling would delete it", 3),
    ]


def test_other_entities_that_are_already_as_they_would_be_written_are_not_findings(
    server: Server, check: Verify
) -> None:
    client = fill(server, "Thing", 6)

    class Copies(Updater):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            copy = Entity(self.client.key("Copy", entity["i"]))
            copy["i"] = entity["i"]
            self.put(copy)
            self.delete(self.client.key("Old", entity["i"]))
            if entity["i"] == 6:
                self.put(Entity(self.client.key("Event")))

    for i in (1, 2, 3, 4, 6):
        copy = Entity(client.key("Copy", i))
        copy["i"] = i if i != 3 else 0
        client.put(copy)
    client.put(Entity(client.key("Old", 4)))
    report = check(server, Copies)
    errors = {group.error: set(group.keys) for group in report.failure_groups}
    would = "a second handling would "
    assert errors == {
        f"{would}change i of another entity of the kind Copy": named(3),
        f"{would}delete another entity of the kind Old": named(4),
        f"{would}create an entity of the kind Copy": named(5),
        f"{would}create an entity of the kind Event": named(6),
    }


def test_rewriting_what_is_unchanged_is_not_a_finding(embedded: Server, check: Verify) -> None:
    fill(embedded, "Thing", 3, nan=float("nan"), tags=["a", "b"])

    class Again(bulkup.BulkPut):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

    assert check(embedded, Again).exit_code is Exit.DONE


def test_a_forgotten_return_is_not_clean(embedded: Server, check: Verify) -> None:
    fill(embedded, "Thing", 3)

    @bulkup.updater(kind="Thing")
    def forgets(entity: Entity) -> None:
        entity["twice"] = 2

    report = check(embedded, forgets)
    assert report.exit_code is Exit.PENDING
    (group,) = report.failure_groups
    assert "would change twice without writing that" in group.error


def test_is_done_decides_where_there_is_one(server: Server, check: Verify) -> None:
    fill(server, "Thing", 10, n=lambda i: i)

    class AddOne(Updater):
        """Changes an entity each time."""

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            entity["n"] += 1
            self.put(entity)

        def is_done(self, entity: Entity) -> bool:
            if entity["i"] == 5:
                raise KeyError("when")
            return bool(entity["n"] != 7)

    report = check(server, AddOne)
    errors = {group.error: set(group.keys) for group in report.failure_groups}
    assert errors == {"is_done returned False": named(7), "KeyError: 'when'": named(5)}
    assert report.verification is not None
    assert report.verification.by_is_done
    assert any("is_done" in group.traceback for group in report.failure_groups)


def test_is_done_of_a_function_gets_the_parameters_that_it_names(
    embedded: Server, check: Verify
) -> None:
    fill(embedded, "Thing", 3)

    def at_most(entity: Entity, *, limit: int) -> bool:
        assert bulkup.client().project == embedded.project
        return bool(entity["i"] <= limit)

    @bulkup.updater(kind="Thing", is_done=at_most)
    def anything(entity: Entity, *, limit: int = 2, other: str = "") -> Entity:
        raise AssertionError("verify asks is_done alone")

    assert keys_of(check(embedded, anything)) == named(3)


def none(entity: Entity) -> Any:
    return None


async def later(entity: Entity) -> bool:
    return False


def yields(entity: Entity) -> Iterator[bool]:
    yield False


@pytest.mark.parametrize(
    ("is_done", "says"), [(later, "is async"), (yields, "yields; return True or False")]
)
def test_an_is_done_whose_answer_would_always_be_true_is_refused(
    embedded: Server, check: Verify, is_done: Any, says: str
) -> None:
    fill(embedded, "Thing", 1)
    updater = bulkup.updater(kind="Thing", is_done=is_done)(lambda entity: entity)
    with pytest.raises(UsageError, match=says):
        check(embedded, updater)


def test_an_is_done_that_is_not_a_method_is_refused(embedded: Server, check: Verify) -> None:
    fill(embedded, "Thing", 1)

    class Flag(bulkup.BulkPut):
        is_done = False  # type: ignore[assignment]

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

    with pytest.raises(UsageError, match="is_done of Flag is False; make it a method"):
        check(embedded, Flag)
    with pytest.raises(UsageError, match="is_done= takes a function"):
        bulkup.updater(kind="Thing", is_done=True)  # type: ignore[arg-type]


def test_is_done_that_returns_nothing_or_writes_accepts_nothing(
    embedded: Server, check: Verify
) -> None:
    fill(embedded, "Thing", 2)
    updater = bulkup.updater(kind="Thing", is_done=none)(lambda entity: entity)
    (group,) = check(embedded, updater).failure_groups
    assert (group.error, group.count) == ("is_done returned None; return True or False", 2)

    class Writes(bulkup.BulkPut):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def is_done(self, entity: Entity) -> bool:
            self.delete(entity)
            return True

    (group,) = check(embedded, Writes).failure_groups
    assert (group.error, group.count) == (
        "is_done puts or deletes entities; it may only look at the one it gets",
        2,
    )


def test_each_entity_is_read_once_however_the_query_is_split(server: Server, check: Verify) -> None:
    fill(server, "Thing", 140, twice=lambda i: 2 * i if i % 35 else 0)
    report = check(server, double, shards=4)
    assert report.counts.handled == 140
    assert keys_of(check(server, double, shards=4, batch_size=7)) <= named(*range(35, 141, 35))
    assert report.counts.failed == 4


def test_a_keys_only_query_is_verified_by_what_is_still_there(
    server: Server, check: Verify
) -> None:
    fill(server, "Thing", 2)

    @bulkup.updater(kind="Thing", keys_only=True)
    def drop(entity: Entity) -> Any:
        return bulkup.delete(entity)

    report = check(server, drop)
    (group,) = report.failure_groups
    assert (group.error, group.count) == ("a second handling would delete it", 2)


def test_an_entity_that_the_query_returns_twice_is_named_once(
    embedded: Server, check: Verify
) -> None:
    fill(embedded, "Thing", 3, tags=["a", "b", "c"])

    @bulkup.updater(kind="Thing", order="tags")
    def tagged(entity: Entity) -> Entity:
        entity["n"] = 1
        return entity

    report = check(embedded, tagged)
    assert (report.counts.handled, report.counts.failed) == (3, 3)


def test_neither_datastore_nor_the_run_state_is_touched(
    server: Server, check: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(server, "Thing", 40)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    state = tmp_path / "s"
    stopped = bulkup.run(double, project=server.project, state_dir=state, limit=20)
    assert stopped.state is RunState.STOPPED

    class Sneaky(Updater):
        """Writes in every way that there is."""

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            way = entity["i"] % 5
            if way == 0:
                self.client.put(entity)
            elif way == 1:
                datastore.Client(project=self.client.project).delete(entity.key)
            elif way == 2:
                with self.client.transaction():
                    self.client.put(entity)
            elif way == 3:
                self.put(Entity(self.client.key("Made")))
            else:
                self.delete(entity)

    def folder() -> dict[str, tuple[bytes, int]]:
        return {
            str(path): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(state.rglob("*"))
            if path.is_file()
        }

    before, stored = folder(), contents(server)
    assert len(stored) > 40  # with what bulkup keeps of the run
    report = check(server, Sneaky)
    assert (report.counts.handled, report.counts.failed) == (40, 40)
    assert folder() == before
    assert contents(server) == stored
    assert client.get(client.key("Thing", 1)) is not None
