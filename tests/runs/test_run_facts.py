"""What is told of a run is read from its folder alone, whatever is in there."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from google.cloud.datastore import Entity
from google.cloud.datastore.query import Query

import bulkup
from bulkup.core.events import Event, Report, RunEnded, Warned
from bulkup.core.model import RunState
from bulkup.core.run_facts import RunFacts
from bulkup.core.version import __version__
from bulkup.report.page import render_page
from bulkup.runs.run_facts import run_facts
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.holder import this_process
from bulkup.state.run_log import EVENTS_NAME
from bulkup.state.undo_files import log_files
from tests.conftest import Server
from tests.engine.conftest import fill
from tests.runs.undoing import Bench


@bulkup.updater(kind="Thing", max_failures=-1)
def lengthen(entity: Entity) -> Entity | None:
    if entity["i"] % 7 == 0:
        raise ValueError(f"no name in {entity['i']}")
    entity["name"] = "longer"
    return entity


@pytest.fixture
def bench(embedded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    fill(embedded, "Thing", 30, name="short")
    return Bench(embedded, tmp_path / "state")


def test_the_facts_name_who_ran_it_how_it_ended_and_what_changed(bench: Bench) -> None:
    report = bench.run(lengthen)
    facts = run_facts(bench.folder(report))
    assert facts.report.counts == report.counts
    assert [(g.count, len(g.keys)) for g in facts.report.failure_groups] == [(4, 4)]
    (runner,) = facts.runners
    assert runner.who == this_process().who
    assert runner.origin.version == __version__
    assert runner.state == "finished"
    assert runner.ended is not None
    assert runner.began <= runner.ended
    assert facts.changes_total == report.counts.writes == 26
    assert len(facts.changes) == 3  # they are alike
    (change,) = facts.changes[0].changes
    assert (change.name, change.before, change.after) == ("name", "'short'", "'longer'")
    assert facts.source_path == __file__


def test_the_samples_are_of_each_kind_of_change(bench: Bench) -> None:
    class Ways(bulkup.Updater):
        def get_query(self) -> Query:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            if entity["i"] % 10 == 9:
                self.delete(entity)
                return
            entity["new" if entity["i"] > 20 else "name"] = "other"
            self.put(entity)

    facts = run_facts(bench.folder(bench.run(Ways)))
    kinds = [(c.action, *((p.name, p.before is None) for p in c.changes)) for c in facts.changes]
    assert sorted(kinds) == [
        *[("delete",)] * 3, *[("put", ("name", False))] * 3, *[("put", ("new", True))] * 3,
    ]  # fmt: skip


def test_each_process_that_worked_on_the_run_is_named(bench: Bench) -> None:
    stopped = bench.run(lengthen, limit=10, batch_size=5)
    assert stopped.state is RunState.STOPPED
    report = bench.run(lengthen, batch_size=5)
    facts = run_facts(bench.folder(report))
    assert [(one.number, one.state) for one in facts.runners] == [(1, "stopped"), (2, "finished")]
    assert facts.report.state is RunState.FINISHED


def test_what_only_the_last_runner_knew_is_known_later(bench: Bench) -> None:
    @bulkup.updater(kind="Thing")
    def unwritten(entity: Entity) -> None:
        return None

    report = bench.run(unwritten, where="i > 1000")
    assert report.warnings
    facts = run_facts(bench.folder(report))
    assert facts.report.warnings == report.warnings
    assert facts.report.operations == report.operations
    assert facts.changes_total == 0
    assert not facts.changes_note


def test_a_run_without_before_images_says_so(bench: Bench) -> None:
    report = bench.run(lengthen, undo=False)
    facts = run_facts(bench.folder(report))
    assert not facts.changes
    assert "no before-images" in facts.changes_note


def test_a_damaged_undo_log_costs_only_its_samples(bench: Bench) -> None:
    report = bench.run(lengthen)
    (log,) = log_files(bench.folder(report))
    log.write_bytes(b"something else entirely")
    facts = run_facts(bench.folder(report))
    assert not facts.changes
    assert "damaged" in facts.changes_note
    assert facts.report.counts == report.counts


def test_the_folder_of_an_earlier_version_has_facts(bench: Bench) -> None:
    report = bench.run(lengthen)
    folder = bench.folder(report)
    (folder / "timeline.jsonl").unlink(missing_ok=True)
    with closing(Checkpoint.open(folder)) as checkpoint:
        checkpoint._db.execute("DELETE FROM meta WHERE name = 'who_worked'")
    facts = run_facts(folder)
    assert facts.runners == facts.samples == ()
    assert facts.report.counts == report.counts


def test_reading_the_facts_changes_nothing(bench: Bench) -> None:
    folder = bench.folder(bench.run(lengthen))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    run_facts(folder)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert before == after


def test_the_facts_show_the_chain(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "chain.py").write_text(
        "import bulkup\n\n\n"
        "class First(bulkup.BulkPut):\n"
        "    then = 'chain.py:Second'\n\n"
        "    def get_query(self):\n"
        "        return self.client.query(kind='Thing')\n\n\n"
        "class Second(First):\n"
        "    then = None\n"
    )
    reports: list[Report] = []

    def listen(event: Event) -> None:
        if isinstance(event, RunEnded):
            reports.append(event.report)

    bench.run(str(tmp_path / "chain.py:First"), listener=listen)
    first, second = reports
    chain = run_facts(bench.folder(first)).chain
    assert [(link.run_id, link.updater, link.state) for link in chain] == [
        (first.run_id, "First", "finished"),
        (second.run_id, "Second", "finished"),
    ]
    assert [link.is_this for link in chain] == [True, False]
    assert [link.is_this for link in run_facts(bench.folder(second)).chain] == [False, True]


def test_the_facts_tell_how_the_run_was_steered(bench: Bench) -> None:
    folder = bench.folder(bench.run(lengthen))
    lines = (
        '{"at": 5.0, "runner": 1, "type": "steered", "message": "paused", "by": "ann@host"}',
        '{"at": 6.0, "runner": 1, "type": "held", "why": "the replica lags"}',
        '{"at": 9.0, "runner": 1, "type": "released", "held_s": 3.0}',
        '{"at": 9.5, "runner": 1, "type": "released", "held_s": {}}',
    )
    with (folder / EVENTS_NAME).open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    assert [(one.at, one.what, one.by) for one in run_facts(folder).incidents] == [
        (5, "paused", "ann@host"),
        (6, "held: the replica lags", ""),
        (9, "went on after 3 s", ""),
        (9.5, "went on", ""),
    ]


def test_a_run_of_a_program_leaves_its_page(bench: Bench) -> None:
    report = bench.run(lengthen)
    page = bench.folder(report) / "report.html"
    assert "Key(&#39;Thing&#39;, 7)" in page.read_text()
    assert len(run_facts(bench.folder(report)).samples) >= 1


def test_a_page_that_cannot_be_written_is_a_warning(bench: Bench) -> None:
    folder = bench.folder(bench.run(lengthen, limit=5))
    (folder / "report.html").unlink()
    (folder / "report.html").mkdir()
    events: list[Event] = []
    report = bench.run(lengthen, listener=events.append)
    assert report.success
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert warnings[-1] == "the page of the run could not be written: Is a directory"


def test_nothing_is_next_for_a_run_that_is_at_work(bench: Bench) -> None:
    seen: list[RunFacts] = []

    @bulkup.updater(kind="Thing")
    def looks(entity: Entity) -> Entity:
        if entity["i"] == 5:
            (folder,) = bench.state_dir.iterdir()
            seen.append(run_facts(folder))
        entity["name"] = "seen"
        return entity

    bench.run(looks, batch_size=2)
    (facts,) = seen
    assert facts.report.alive
    assert facts.report.next_command == ""
    assert [(one.number, one.ended) for one in facts.runners] == [(1, None)]
    assert "Resuming continues" not in render_page(facts)
