"""What followed a run is undone with it, and what is noted of a run that was undone is true."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

from bulkup.core.errors import Exit, NotFoundError, UsageError
from bulkup.core.events import Report, Warned
from bulkup.core.model import RunState
from bulkup.engine.options import Options
from bulkup.runs.context import RunContext
from bulkup.runs.resume import open_unfinished, prepare_resume, resume
from bulkup.runs.retry import open_to_retry, prepare_retry, retry
from bulkup.runs.target import TargetOptions
from bulkup.runs.undo import _Undoing
from bulkup.state.checkpoint import Checkpoint
from tests.cli.shell import contents
from tests.conftest import Server
from tests.engine.conftest import fill
from tests.engine.updaters import Stamp
from tests.runs.undoing import Bench, entities

pytestmark = pytest.mark.sampled(5)

SIZE = 12


@pytest.fixture
def bench(embedded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    bench = Bench(embedded, tmp_path / "state")
    fill(embedded, "Thing", SIZE, n=0)
    return bench


def context_of(bench: Bench) -> RunContext:
    return RunContext(Options(), bench.state_dir, bench.events.append)


def warnings_of(bench: Bench) -> str:
    return "\n".join(event.message for event in bench.events if isinstance(event, Warned))


class Choosy(Stamp):
    """Fails at every third, until it is fixed."""

    max_failures = -1
    is_fixed = False

    def handle_entity(self, entity: Entity) -> None:
        if not Choosy.is_fixed and entity["i"] % 3 == 0:
            raise ValueError("not yet")
        super().handle_entity(entity)


def run_and_retry(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[Report, Report]:
    first = bench.run(f"{__name__}:Choosy")
    assert (first.counts.written, first.counts.failed) == (SIZE * 2 // 3, SIZE // 3)
    monkeypatch.setattr(Choosy, "is_fixed", True)
    context = replace(context_of(bench), options=Options(**options))
    with (
        open_to_retry(first.run_id, context) as checkpoint,
        prepare_retry(checkpoint, TargetOptions(bench.server.project), context) as prepared,
    ):
        retried = retry(prepared, checkpoint)
    assert retried.counts.written == SIZE // 3
    return first, retried


def test_what_a_retry_has_written_is_undone_with_its_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = entities(bench.server)
    first, retried = run_and_retry(bench, monkeypatch)
    assert bench.undo(first).exit_code == Exit.DONE
    assert entities(bench.server) == before
    assert f"run {first.run_id} was followed by {retried.run_id}, undone first" in warnings_of(
        bench
    )
    for run in (first, retried):
        with pytest.raises(NotFoundError, match="is undone"):
            bench.undo(run)


def test_chosen_entities_are_put_back_though_a_follower_has_changed_none_of_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = entities(bench.server)
    first, retried = run_and_retry(bench, monkeypatch)
    after = entities(bench.server)
    chosen = tmp_path / "some.keys"
    for of_run, of_retry in ((4, 0), (0, 3), (5, 6)):
        ids = [id_ for id_ in (of_run, of_retry) if id_]
        chosen.write_text("".join(f"Key('Thing', {id_})\n" for id_ in ids))
        assert bench.undo(first, keys_from=str(chosen)).exit_code == Exit.DONE
    now = entities(bench.server)
    assert {key for key in now if now[key] != after[key]} == {
        f"Key('Thing', {id_})" for id_ in (3, 4, 5, 6)
    }
    chosen.write_text("Key('Thing', 999)\n")
    with pytest.raises(UsageError, match="has changed none of the entities"):
        bench.undo(first, keys_from=str(chosen))
    assert bench.undo(first).exit_code == Exit.DONE
    assert entities(bench.server) == before
    with pytest.raises(NotFoundError, match="is undone"):
        bench.undo(retried)


def test_what_a_retry_has_handled_fails_again_when_that_is_undone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, retried = run_and_retry(bench, monkeypatch)

    def to_retry() -> list[str]:
        with closing(Checkpoint.open(bench.folder(first))) as checkpoint:
            return sorted(checkpoint.keys_to_retry())

    assert to_retry() == []
    undone = bench.undo(retried)
    failed = to_retry()
    assert failed == sorted(f"Key('Thing', {i})" for i in range(3, SIZE + 1, 3))
    redone = bench.undo(undone)
    assert to_retry() == []
    bench.undo(redone)
    assert to_retry() == failed
    context = context_of(bench)
    with (
        open_to_retry(first.run_id, context) as checkpoint,
        prepare_retry(checkpoint, TargetOptions(bench.server.project), context) as prepared,
    ):
        assert retry(prepared, checkpoint).counts.written == SIZE // 3
    assert to_retry() == []


def test_a_retry_whose_folder_is_gone_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, retried = run_and_retry(bench, monkeypatch)
    shutil.rmtree(bench.folder(retried))
    assert bench.undo(first).counts.written == SIZE * 2 // 3
    assert f"`bulkup undo {retried.run_id}` rewinds it" in warnings_of(bench)


def test_a_retry_without_before_images_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, retried = run_and_retry(bench, monkeypatch, no_undo=True)
    assert bench.undo(first).counts.written == SIZE * 2 // 3
    assert f"run {retried.run_id}, which handled failures of" in warnings_of(bench)


def test_a_run_that_was_undone_does_not_count_as_done(bench: Bench) -> None:
    first = bench.run(Stamp, once=True)
    after = entities(bench.server)
    bench.undo(first)
    again = bench.run(Stamp, once=True)
    assert (again.run_id != first.run_id, again.counts.written) == (True, SIZE)
    assert entities(bench.server).keys() == after.keys()
    assert bench.run(Stamp, once=True).run_id == again.run_id


def test_a_run_that_was_undone_in_part_still_counts_as_done(bench: Bench, tmp_path: Path) -> None:
    first = bench.run(Stamp, once=True)
    chosen = tmp_path / "some.keys"
    chosen.write_text("Key('Thing', 3)\n")
    bench.undo(first, keys_from=str(chosen))
    assert bench.run(Stamp, once=True).run_id == first.run_id


class Elsewhere(Stamp):
    """Writes to another namespace, too."""

    def handle_entity(self, entity: Entity) -> None:
        super().handle_entity(entity)
        other = Entity(self.client.key("Other", entity["i"], namespace="x"))
        other["made"] = True
        self.put(other)


def test_an_undo_stopped_between_two_namespaces_is_not_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = entities(bench.server, "", "x")
    first = bench.run(Elsewhere)
    after = entities(bench.server, "", "x")
    restore, calls = _Undoing._restore, []

    def stopped_at_the_second(*args: Any, **options: Any) -> Report:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return restore(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(_Undoing, "_restore", stopped_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            bench.undo(first)
    assert bench.undo(first).exit_code == Exit.DONE
    assert entities(bench.server, "", "x") == before
    with pytest.raises(NotFoundError, match="is undone") as both:
        bench.undo(first)
    # Both are named, and each brings back its part.
    one, other = both.value.message.partition("(by ")[2].partition(")")[0].split(" and ")
    assert bench.undo(other).exit_code == Exit.DONE
    assert entities(bench.server, "", "x") not in (before, after)
    assert bench.undo(one).exit_code == Exit.DONE
    assert entities(bench.server, "", "x") == after
    assert bench.undo(first).exit_code == Exit.DONE
    assert entities(bench.server, "", "x") == before


def test_an_undo_whose_end_was_not_noted_can_be_undone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = entities(bench.server)
    first = bench.run(Stamp)
    after = entities(bench.server)

    def killed(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bulkup.runs.undo.note_undone", killed)
        with pytest.raises(KeyboardInterrupt):
            bench.undo(first)
    assert entities(bench.server) == before
    assert bench.undo(first).counts.writes == 0
    with pytest.raises(NotFoundError, match="is undone") as undone:
        bench.undo(first)
    (undo_id,) = undone.value.message.partition("(by ")[2].partition(")")[0].split(" and ")
    assert bench.undo(undo_id).exit_code == Exit.DONE
    assert entities(bench.server) == after


def test_an_undo_that_was_resumed_is_noted(bench: Bench) -> None:
    before = entities(bench.server)
    first = bench.run(Stamp)
    stopped = bench.undo(first, options=Options(limit=4, batch_size=2))
    assert stopped.state is RunState.STOPPED
    context = context_of(bench)
    target = TargetOptions(bench.server.project)
    with (
        open_unfinished(stopped.run_id, context) as checkpoint,
        prepare_resume(checkpoint, target, {}, context) as prepared,
    ):
        resume(prepared, checkpoint)
    assert entities(bench.server) == before
    with pytest.raises(NotFoundError, match=rf"is undone \(by {stopped.run_id}\)"):
        bench.undo(first)


def test_an_unfinished_run_that_changed_nothing_is_said_to_be_over(bench: Bench) -> None:
    class Idle(Stamp):
        def handle_entity(self, entity: Entity) -> None:
            if entity["i"] > 4:
                super().handle_entity(entity)

    first = bench.run(Idle, limit=2, batch_size=2)
    assert (first.state, first.counts.writes) == (RunState.STOPPED, 0)
    with pytest.raises(NotFoundError, match="it is over now, and cannot be resumed"):
        bench.undo(first)


class Last(Stamp):
    """Never clean."""

    def handle_entity(self, entity: Entity) -> None:
        raise ValueError("no")


class Leading(Stamp):
    then = Last


def test_a_successor_that_has_not_begun_is_given_up(bench: Bench) -> None:
    before = entities(bench.server)
    closed = bench.run(Leading, gate="clean")
    first = closed.run_id.partition("+")[0]
    assert [path.name for path in bench.state_dir.iterdir()] == [first]
    assert "cannot" not in warnings_of(bench)
    everything = contents(bench.server)
    bench.undo(first, options=Options(dry_run=True))
    assert f"run {first}+1 has not begun, and would be given up" in warnings_of(bench)
    assert contents(bench.server) == everything
    assert bench.undo(first).exit_code == Exit.DONE
    assert entities(bench.server) == before
    assert f"run {first}+1, which had not begun, is given up" in warnings_of(bench)


class Seconds(Stamp):
    def get_query(self) -> Any:
        return self.client.query(kind="Second")


class Followed(Stamp):
    then = Seconds


def test_a_run_whose_successor_changed_nothing_is_undone_once(bench: Bench) -> None:
    first = bench.run(Followed).run_id.partition("+")[0]  # there is nothing of its kind
    bench.undo(first)
    with pytest.raises(NotFoundError, match=f"run {first} is undone"):
        bench.undo(first)


def test_force_asks_for_each_run_of_a_chain(bench: Bench) -> None:
    before = entities(bench.server)
    fill(bench.server, "Second", 3, n=0)
    first = bench.run(Followed).run_id.partition("+")[0]
    client = bench.client
    theirs = client.get(client.key("Thing", 1))
    theirs["theirs"] = True
    client.put(theirs)
    asked: list[int | None] = []
    bench.undo(first, force=True, confirm=lambda runs, target, n: asked.append(n))
    assert [n for n in asked if n] == [1]
    now = entities(bench.server)
    assert {key: now[key] for key in before} == before
