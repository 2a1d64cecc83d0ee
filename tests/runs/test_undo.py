"""A run is undone: every entity is what it was, and what others wrote since stays."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

from bulkup import BulkDelete, BulkPut, Updater
from bulkup.core.errors import Exit, HeldError, MismatchError, NotFoundError, StateError, UsageError
from bulkup.core.events import Warned, WouldChange
from bulkup.core.model import Counts, RunState
from bulkup.engine.options import Options
from bulkup.state.checkpoint import BatchRow, Checkpoint
from bulkup.state.files import RunLock
from bulkup.state.undo_files import log_files
from tests.cli.shell import contents
from tests.conftest import Server
from tests.engine.conftest import fill
from tests.engine.updaters import Mixed, Raced, Stamp, ToTheNext
from tests.runs.undoing import Bench, entities

pytestmark = pytest.mark.sampled(9)


@pytest.fixture
def bench(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    return Bench(server, tmp_path / "state")


def things(bench: Bench, count: int = 60) -> dict[str, bytes]:
    """Things with values of several types; what is there after that."""
    fill(
        bench.server, "Thing", count, n=0, got=0, touched=False, by=None,
        name=lambda i: f"number {i}", deep=lambda i: {"of": i, "list": [i, "two", None]},
        at=datetime(2026, 1, 2, 3, 4, 5, 678901, timezone.utc), large=b"\0\xff" * 40,
    )  # fmt: skip
    return entities(bench.server)


class Everything(Stamp):
    """Changes, deletes, creates; writes entities that it has read, and some that it has not."""

    def handle_entity(self, entity: Entity) -> None:
        i = entity["i"]
        client = self.client
        if i % 5 == 0:
            self.delete(entity)
            return
        if i % 5 == 1:
            self.put(Entity(client.key("Made")))
            self.put(Entity(client.key("Named", f"by {i}")))
        if i % 5 == 2:
            blind = Entity(client.key("Other", i))
            blind["blind"] = True
            self.put(blind)
            self.delete(client.key("Other", i + 1000))
        if i % 5 == 3:
            other = client.get(client.key("Other", i))
            if other is not None:
                other["read"] = True
                self.put(other)
        entity["n"] += 1
        entity["name"] = "changed"
        del entity["deep"]
        entity["new"] = [1, 2]
        entity.exclude_from_indexes.add("n")
        self.put(entity)


def others(bench: Bench, count: int) -> None:
    for offset in (0, 1000):
        client = bench.server.client()
        made = []
        for i in range(1, count + 1):
            entity = Entity(client.key("Other", i + offset), exclude_from_indexes=("text",))
            entity["text"] = f"other {i}"
            made.append(entity)
        client.put_multi(made)


@pytest.mark.parametrize("options", [{}, {"shards": 4, "batch_size": 7}], ids=["plain", "shards"])
def test_every_entity_is_what_it_was(bench: Bench, options: dict[str, Any]) -> None:
    others(bench, 60)
    before = things(bench)
    report = bench.run(Everything, **options)
    assert report.exit_code == Exit.DONE
    assert entities(bench.server) != before
    undone = bench.undo(report)
    assert (undone.exit_code, undone.counts.failed) == (Exit.DONE, 0)
    assert entities(bench.server) == before


@pytest.mark.client_side
def test_what_worker_processes_wrote_is_undone(bench: Bench) -> None:
    before = things(bench)
    report = bench.run(Mixed, processes=2, max_failures=-1)
    assert report.counts.written
    assert report.counts.deleted
    assert bench.undo(report).counts.failed == 0
    assert entities(bench.server) == before


@pytest.mark.parametrize("updater", [Raced, ToTheNext])
def test_what_was_handled_again_is_undone_but_for_what_others_wrote(
    bench: Bench, updater: Any
) -> None:
    before = things(bench, 40)
    report = bench.run(updater, batch_size=9)
    undone = bench.undo(report)
    now = entities(bench.server)
    client = bench.client
    if updater is ToTheNext:
        assert (undone.counts.failed, now) == (0, before)
        return
    # Their writes came between the read and the write of the run, so the before-image has them.
    assert undone.counts.failed == 0
    for thing in client.query(kind="Thing").fetch():
        assert (thing["n"], thing["touched"]) == (0, thing["i"] % 10 == 0)


def test_an_entity_that_was_changed_since_is_left_alone_and_named(bench: Bench) -> None:
    before = things(bench)
    report = bench.run(Everything)
    client = bench.client
    changed = client.get(client.key("Thing", 1))
    changed["theirs"] = True
    client.put(changed)
    client.delete(client.key("Thing", 2))
    again = Entity(client.key("Thing", 5))
    again["theirs"] = 5
    client.put(again)
    theirs = entities(bench.server)
    undone = bench.undo(report)
    assert undone.exit_code == Exit.DONE_WITH_FAILURES
    assert {failure.key: failure.error for failure in undone.failures} == {
        "Key('Thing', 1)": "left as it is: somebody has changed it since",
        "Key('Thing', 2)": "left as it is: somebody has deleted it since",
        "Key('Thing', 5)": "left as it is: somebody has put an entity there since",
    }
    now = entities(bench.server)
    kept = ("Key('Thing', 1)", "Key('Thing', 2)", "Key('Thing', 5)")
    assert {key: now.get(key) for key in kept} == {key: theirs.get(key) for key in kept}
    assert {k: v for k, v in now.items() if k not in kept} == {
        k: v for k, v in before.items() if k not in kept
    }
    asked: list[int | None] = []
    forced = bench.undo(report, force=True, confirm=lambda runs, target, n: asked.append(n))
    assert asked == [3]
    assert (forced.exit_code, entities(bench.server)) == (Exit.DONE, before)


def test_an_undo_is_undone(bench: Bench) -> None:
    before = things(bench)
    report = bench.run(Everything)
    after = entities(bench.server)
    undone = bench.undo(report)
    assert entities(bench.server) == before
    redone = bench.undo(undone)
    assert (redone.exit_code, entities(bench.server)) == (Exit.DONE, after)
    with pytest.raises(NotFoundError, match=f"bulkup undo {redone.run_id}"):
        bench.undo(report)
    assert bench.undo(redone).exit_code == Exit.DONE
    assert entities(bench.server) == before


@pytest.mark.client_side
def test_twice_is_one_sentence_and_writes_nothing(bench: Bench) -> None:
    things(bench)
    report = bench.run(Stamp)
    undone = bench.undo(report)
    everything = contents(bench.server)
    folders = sorted(bench.state_dir.iterdir())
    with pytest.raises(NotFoundError, match=rf"is undone \(by {undone.run_id}\)"):
        bench.undo(report)
    assert contents(bench.server) == everything
    assert sorted(bench.state_dir.iterdir()) == folders


@pytest.mark.client_side
def test_a_dry_run_shows_what_would_be_put_back_and_writes_nothing(bench: Bench) -> None:
    things(bench)
    report = bench.run(Everything)
    everything = contents(bench.server)
    files = {
        path: path.stat().st_mtime_ns for path in bench.state_dir.rglob("*") if "-" not in path.name
    }
    dry = bench.undo(report, options=Options(dry_run=True))
    shown = [event for event in bench.events if isinstance(event, WouldChange)]
    assert dry.counts.failed == 0
    assert len(shown) == report.counts.writes - 12  # of which those deleted nothing
    assert contents(bench.server) == everything
    assert files == {
        path: path.stat().st_mtime_ns for path in bench.state_dir.rglob("*") if "-" not in path.name
    }
    bench.undo(report)


@pytest.mark.client_side
def test_only_the_entities_in_a_file_are_put_back(bench: Bench, tmp_path: Path) -> None:
    before = things(bench)
    report = bench.run(Stamp)
    after = entities(bench.server)
    file = tmp_path / "keys"
    file.write_text("Key('Thing', 3)\nKey('Thing', 7)\nKey('Thing', 999)\n")
    undone = bench.undo(report, keys_from=str(file))
    assert undone.counts.handled == 2
    wanted = {**after, **{f"Key('Thing', {i})": before[f"Key('Thing', {i})"] for i in (3, 7)}}
    assert entities(bench.server) == wanted
    messages = [event.message for event in bench.events if isinstance(event, Warned)]
    assert any("1 of the keys" in message for message in messages), messages
    assert bench.undo(report).counts.written == 58
    assert entities(bench.server) == before
    file.write_text("Key('Thing', 999)\n")
    other = bench.run(Stamp)
    with pytest.raises(UsageError, match="has changed none of the entities"):
        bench.undo(other, keys_from=str(file))


@pytest.mark.client_side
def test_a_run_without_before_images_cannot_be_undone(bench: Bench) -> None:
    things(bench)
    report = bench.run(Stamp, undo=False)
    assert not (bench.folder(report) / "undo").exists()
    with pytest.raises(StateError, match="it was started with --no-undo"):
        bench.undo(report)


@pytest.mark.client_side
def test_a_run_that_changed_nothing_leaves_nothing_to_undo(bench: Bench) -> None:
    class Same(Stamp):
        def handle_entity(self, entity: Entity) -> None:
            self.put(entity)

    things(bench)
    report = bench.run(Same)
    with pytest.raises(NotFoundError, match="has changed nothing"):
        bench.undo(report)


@pytest.mark.client_side
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "emptied", "another version"])
def test_damaged_before_images_are_refused(bench: Bench, damage: str) -> None:
    things(bench)
    report = bench.run(Stamp, batch_size=10)
    (file,) = log_files(bench.folder(report))
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        middle = len(data) // 2
        file.write_bytes(data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :])
    elif damage == "gone":
        file.unlink()
    elif damage == "emptied":
        file.write_bytes(b"")
    else:
        file.write_bytes(b"bulkup undo log 9\nwhatever comes then")
    everything = contents(bench.server)
    match = "another version" if damage == "another version" else "missing or damaged"
    with pytest.raises(StateError, match=match):
        bench.undo(report)
    assert contents(bench.server) == everything


@pytest.mark.client_side
def test_another_target_is_refused(bench: Bench) -> None:
    things(bench)
    report = bench.run(Stamp)
    everything = contents(bench.server)
    with pytest.raises(MismatchError, match="is on"):
        bench.undo(report, namespace="elsewhere")
    assert contents(bench.server) == everything


@pytest.mark.client_side
def test_a_run_at_work_is_not_undone(bench: Bench) -> None:
    things(bench)
    report = bench.run(Stamp)
    lock = RunLock(bench.folder(report))
    lock.acquire()
    try:
        with pytest.raises(HeldError):
            bench.undo(report)
        with pytest.raises(HeldError):
            bench.undo(report, options=Options(dry_run=True))
    finally:
        lock.release()


def test_an_unfinished_run_is_undone_and_over(bench: Bench) -> None:
    before = things(bench)
    report = bench.run(Stamp, limit=25, batch_size=10)
    assert report.state is RunState.STOPPED
    undone = bench.undo(report)
    assert (undone.exit_code, undone.counts.written) == (Exit.DONE, 25)
    assert entities(bench.server) == before
    again = bench.run(Stamp)
    assert (again.run_id != report.run_id, again.counts.written) == (True, 60)


def test_an_undo_that_was_stopped_is_resumed(bench: Bench) -> None:
    before = things(bench)
    report = bench.run(Everything)
    stopped = bench.undo(report, options=Options(limit=20, batch_size=10))
    assert stopped.state is RunState.STOPPED
    resumed = bench.undo(report)
    assert (resumed.run_id, resumed.exit_code) == (stopped.run_id, Exit.DONE)
    assert entities(bench.server) == before
    with pytest.raises(NotFoundError, match="is undone"):
        bench.undo(report)


class Second(Stamp):
    def handle_entity(self, entity: Entity) -> None:
        entity["second"] = entity["n"]
        self.put(entity)


class First(Stamp):
    then = Second


def test_a_chain_is_undone_newest_first(bench: Bench) -> None:
    before = things(bench)
    report = bench.run(First)
    first = report.run_id.partition("+")[0]
    assert report.run_id == f"{first}+1"
    undone = bench.undo(first)
    assert (undone.exit_code, entities(bench.server)) == (Exit.DONE, before)
    messages = [event.message for event in bench.events if isinstance(event, Warned)]
    assert f"run {first} was followed by {first}+1, undone first" in messages


def test_what_others_wrote_between_two_runs_of_a_chain_stays(bench: Bench) -> None:
    things(bench, 10)
    first = bench.run(Stamp)
    client = bench.client
    thing = client.get(client.key("Thing", 4))
    thing["theirs"] = "kept"
    client.put(thing)
    bench.undo(first)
    assert client.get(client.key("Thing", 4))["theirs"] == "kept"


class Counting(Updater):
    """Counts in one entity, which it writes with each of its own."""

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        counter = self.client.get(self.client.key("Counter", "all"))
        counter["n"] += 1
        self.put(counter)
        entity["n"] = counter["n"]
        self.put(entity)


def test_of_several_writes_of_one_key_the_oldest_image_counts(bench: Bench) -> None:
    counter = Entity(bench.client.key("Counter", "all"))
    counter["n"] = 100
    bench.client.put(counter)
    before = things(bench, 20)
    report = bench.run(Counting, batch_size=5)
    undone = bench.undo(report)
    assert (undone.counts.failed, entities(bench.server)) == (0, before)


def test_what_others_wrote_between_two_writes_of_a_run_is_left_alone(bench: Bench) -> None:
    class Disturbed(Counting):
        def handle_entity(self, entity: Entity) -> None:
            if entity["i"] == 9:
                live = bench.server.client()
                theirs = live.get(live.key("Counter", "all"))
                theirs["theirs"] = True
                live.put(theirs)
            super().handle_entity(entity)

    counter = Entity(bench.client.key("Counter", "all"))
    counter["n"] = 100
    bench.client.put(counter)
    things(bench, 20)
    report = bench.run(Disturbed, batch_size=5)
    undone = bench.undo(report)
    (failure,) = undone.failures
    assert failure.key == "Key('Counter', 'all')"
    assert "others have changed it between two writes of the run" in failure.error
    now = bench.client.get(bench.client.key("Counter", "all"))
    assert now["theirs"] is True


def test_keys_alone_are_read_before_they_are_deleted(bench: Bench) -> None:
    class ByKey(BulkDelete):
        def get_query(self) -> Any:
            query = self.client.query(kind="Thing")
            query.keys_only()
            return query

    before = things(bench)
    report = bench.run(ByKey, batch_size=20)
    assert report.counts.deleted == 60
    bench.undo(report)
    assert entities(bench.server) == before


def test_entities_written_again_as_they_were_cost_an_undo_no_write(bench: Bench) -> None:
    class Again(BulkPut):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

    things(bench)
    report = bench.run(Again)
    undone = bench.undo(report)
    assert (undone.counts.unchanged, undone.counts.writes) == (60, 0)


def test_other_namespaces_that_a_run_wrote_to_are_undone(bench: Bench) -> None:
    class Elsewhere(Stamp):
        def handle_entity(self, entity: Entity) -> None:
            copy = Entity(self.client.key("Thing", entity["i"], namespace="copies"))
            copy.update(entity)
            self.put(copy)
            entity["n"] += 1
            self.put(entity)

    before = things(bench, 12)
    report = bench.run(Elsewhere)
    assert len(entities(bench.server, "copies")) == 12
    assert bench.undo(report).exit_code == Exit.DONE
    assert entities(bench.server) == before
    assert entities(bench.server, "copies") == {}


@pytest.mark.client_side
def test_the_files_are_their_owners_alone(bench: Bench) -> None:
    things(bench)
    report = bench.run(Stamp)
    folder = bench.folder(report) / "undo"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600]


@pytest.mark.client_side
def test_an_abandoned_run_with_unknown_commits_is_refused(bench: Bench) -> None:
    before = things(bench)
    report = bench.run(Stamp, limit=20, batch_size=10)
    with closing(Checkpoint.open(bench.folder(report))) as checkpoint:
        row = BatchRow(1, 99, 0, b"", b"x", b"x", False, Counts(handled=1, puts=1))
        checkpoint.batch_sent(row, (), ())
        checkpoint.end_work(RunState.ABANDONED, "by hand", Exit.DONE, clean=True)
    with pytest.raises(StateError, match="with commits in flight"):
        bench.undo(report)
    assert bench.undo(report, force=True).counts.written == 20
    assert entities(bench.server) == before
