"""Run records and leases: a run goes on from anywhere, and from one place at a time."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.core.clock import Clock
from bulkup.core.errors import HeldError, NotFoundError, StateError
from bulkup.core.events import Event, Report, Warned
from bulkup.core.model import RunState, TargetInfo
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.target import resolve
from bulkup.engine.options import Options
from bulkup.runs import housekeeping, prepare, resume, start
from bulkup.runs.context import RunContext
from bulkup.runs.target import TargetOptions
from bulkup.state.holder import this_process
from bulkup.state.kinds import CLAIM_KIND, MARKER_KIND, RUN_KIND
from bulkup.state.record import LEASE_S, Holder, LeaseTerms, RunRecord
from bulkup.state.run_records import Ledger, RecordMovedOn
from tests.cli.shell import Shell, ended
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill

pytestmark = pytest.mark.sampled(2)


@bulkup.updater(kind="Thing")
def once_more(entity: Entity) -> Entity:
    entity["n"] += 1
    return entity


@bulkup.updater(kind="Thing", order="n")
def away(entity: Entity) -> Entity:
    entity["n"] += 1000
    return entity


def records(server: Server) -> list[Entity]:
    return everything(server.client(), RUN_KIND)


def ledger_of(server: Server, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    target = resolve(server.project)
    return Ledger(Rpc(target.client), target.info)


def hold(ledger: Ledger, run_id: str, holder: Holder, until: float) -> RunRecord:
    """Somebody else takes the run."""
    record = ledger.read(run_id)
    assert record is not None
    return ledger.write(
        replace(
            record,
            state=RunState.RUNNING,
            lease=LeaseTerms(holder, int(until), record.lease.generation + 1),
        )
    )


ELSEWHERE = Holder("r1", "ann@far", "far/boot", 77, "1")


def test_a_run_leaves_one_record_and_no_marker(server: Server, run: Run) -> None:
    client = fill(server, "Thing", 30, n=0)
    report = run(server, once_more, batch_size=7)
    (stored,) = records(server)
    assert stored.key.name == report.run_id
    assert (stored["updater"], stored["state"], stored["open"]) == (
        "once_more",
        "finished",
        False,
    )
    assert everything(client, MARKER_KIND) == []


def test_no_record_leaves_nothing_at_all(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(server, "Thing", 30, n=0)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    context = RunContext(Options(batch_size=7), tmp_path, lambda _: None)
    with prepare.prepare(once_more, {}, TargetOptions(server.project), context) as prepared:
        report = start.start(prepared, keep_record=False)
    assert report.success
    assert records(server) == []
    assert everything(client, MARKER_KIND) == []


def test_with_its_state_lost_the_same_command_resumes(
    server: Server, run: Run, tmp_path: Path
) -> None:
    client = fill(server, "Thing", 40, n=0)
    first = run(server, once_more, batch_size=5, limit=18)
    shutil.rmtree(tmp_path / "state")
    second = run(server, once_more, batch_size=5)
    assert second.run_id == first.run_id
    assert any("--new starts a new run" in warning for warning in second.warnings)
    assert (second.counts.handled, second.counts.puts) == (40, 40)
    assert {e["n"] for e in everything(client, "Thing")} == {1}


def test_a_dry_run_leaves_a_claim_without_a_record_where_it_is(server: Server, run: Run) -> None:
    """A run removes it; a dry run writes nothing at all."""
    client = fill(server, "Thing", 10, n=0)
    run(server, once_more, batch_size=5, limit=5)
    client.delete_multi([e.key for e in client.query(kind=RUN_KIND).fetch()])
    claims = everything(client, CLAIM_KIND)
    assert len(claims) == 1
    assert run(server, once_more, dry_run=True).success
    assert everything(client, CLAIM_KIND) == claims
    assert run(server, once_more).success
    assert everything(client, CLAIM_KIND) == []


def test_other_parameters_or_another_query_are_another_run(server: Server, run: Run) -> None:
    fill(server, "Thing", 10, n=0)
    first = run(server, once_more, limit=5)

    @bulkup.updater(kind="Thing", filters=[("i", ">", 5)])
    def once_more_too(entity: Entity) -> Entity:
        return once_more(entity)

    once_more_too.__name__ = "once_more"
    assert run(server, once_more_too).run_id != first.run_id


def test_new_starts_over_and_ends_the_old_one_for_good(
    server: Server, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(server, "Thing", 20, n=0)
    first = run(server, once_more, batch_size=5, limit=10)
    context = RunContext(Options(batch_size=5), tmp_path / "state", lambda _: None)
    with prepare.prepare(once_more, {}, TargetOptions(server.project), context) as prepared:
        second = start.start(prepared, fresh=True)
    assert second.run_id != first.run_id
    assert sorted(e["n"] for e in everything(client, "Thing")) == [1] * 10 + [2] * 10
    with (
        resume.open_unfinished(first.run_id, context) as checkpoint,
        resume.prepare_resume(checkpoint, TargetOptions(), {}, context) as prepared,
        pytest.raises(NotFoundError, match="abandoned"),
    ):
        resume.resume(prepared, checkpoint)


def test_new_starts_over_although_somebody_else_starts_the_same_work_just_then(
    embedded: Server, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(embedded, "Thing", 20, n=0)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    others: list[Report] = []
    sweep = housekeeping.sweep_markers

    def meanwhile(*args: Any) -> None:
        sweep(*args)
        if not others:  # after this command saw no unfinished run, before it claims the work
            monkeypatch.setattr(start, "sweep_markers", sweep)
            others.append(run(embedded, once_more, batch_size=5, limit=10))

    monkeypatch.setattr(start, "sweep_markers", meanwhile)
    context = RunContext(Options(batch_size=5), tmp_path / "mine", lambda _: None)
    with prepare.prepare(once_more, {}, TargetOptions(embedded.project), context) as prepared:
        mine = start.start(prepared, fresh=True)
    assert mine.success
    assert mine.run_id != others[0].run_id
    assert sorted(e["n"] for e in everything(client, "Thing")) == [1] * 10 + [2] * 10
    ended = ledger_of(embedded, monkeypatch).read(others[0].run_id)
    assert ended is not None
    assert ended.state is RunState.ABANDONED


def test_a_run_that_another_machine_holds_is_left_alone(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(server, "Thing", 20, n=0)
    first = run(server, once_more, batch_size=5, limit=10)
    hold(ledger_of(server, monkeypatch), first.run_id, ELSEWHERE, time.time() + LEASE_S)
    with pytest.raises(HeldError, match=r"ann@far \(process 77\) is working on run"):
        run(server, once_more)
    assert sorted(e["n"] for e in everything(client, "Thing")) == [0] * 10 + [1] * 10


def test_it_is_taken_over_when_the_lease_has_run_out(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(server, "Thing", 20, n=0)
    first = run(server, once_more, batch_size=5, limit=10)
    hold(ledger_of(server, monkeypatch), first.run_id, ELSEWHERE, time.time() - 1)
    assert run(server, once_more, batch_size=5).success
    assert {e["n"] for e in everything(client, "Thing")} == {1}


def test_it_is_taken_over_at_once_from_a_dead_process_of_this_machine(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(server, "Thing", 20, n=0)
    first = run(server, once_more, batch_size=5, limit=10)
    gone = replace(this_process(), began="long ago")  # another process has its process id by now
    hold(ledger_of(server, monkeypatch), first.run_id, gone, time.time() + LEASE_S)
    assert run(server, once_more, batch_size=5).success
    assert {e["n"] for e in everything(client, "Thing")} == {1}


def test_a_waiting_runner_names_the_holder_and_continues_when_the_lease_ends(
    embedded: Server, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(embedded, "Thing", 20, n=0)
    first = run(embedded, once_more, batch_size=5, limit=10)
    held_at = time.time()
    hold(ledger_of(embedded, monkeypatch), first.run_id, ELSEWHERE, held_at + 1000)
    passed = [0.0]  # seconds that only this clock has seen, which sees no others

    def sleep(seconds: float) -> None:
        passed[0] += seconds

    clock = Clock(
        monotonic=lambda: passed[0],
        unix=lambda: held_at + passed[0],
        sleep=sleep,
        elapsed=lambda: passed[0],
    )
    events: list[Event] = []
    context = RunContext(Options(batch_size=5), tmp_path / "state", events.append, 2000, clock)
    with prepare.prepare(once_more, {}, TargetOptions(embedded.project), context) as prepared:
        report = start.start(prepared)
    assert report.success
    # The lease ends on a whole second.
    assert 999 <= passed[0] < 1100
    waits = [e.message for e in events if isinstance(e, Warned) and "waiting" in e.message]
    assert waits == ["waiting for ann@far (process 77), who works on this run"]
    assert {e["n"] for e in everything(client, "Thing")} == {1}


def test_a_run_that_moves_its_entities_resumes_only_with_its_state_directory(
    server: Server, run: Run, tmp_path: Path
) -> None:
    client = fill(server, "Thing", 30, n=lambda i: i)
    first = run(server, away, batch_size=5, limit=12)
    (tmp_path / "state").rename(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="only the state directory of"):
        run(server, away, batch_size=5)
    (tmp_path / "state").rename(tmp_path / "empty")
    (tmp_path / "elsewhere").rename(tmp_path / "state")
    assert run(server, away, batch_size=5).run_id == first.run_id
    assert all(1000 < e["n"] < 2000 for e in everything(client, "Thing"))


def test_two_writers_of_a_record_exclude_each_other(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(server, "Thing", 10, n=0)
    report: Report = run(server, once_more, limit=5)
    ledger = ledger_of(server, monkeypatch)
    before = ledger.read(report.run_id)
    assert before is not None
    after = ledger.write(replace(before, reason="early"))
    assert ledger.read(report.run_id) == after
    with pytest.raises(RecordMovedOn):
        ledger.write(replace(before, reason="late"))


def test_a_record_survives_the_way_there_and_back(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(server, "Thing", 10, n=0)
    report = run(server, once_more, limit=5)
    record = ledger_of(server, monkeypatch).read(report.run_id)
    assert record is not None
    assert record.run_info.target == TargetInfo(server.project, emulator=server.host)
    assert record.state is RunState.STOPPED
    assert record.counts.handled == 5
    assert record.lease.until == 0


def test_when_two_processes_start_the_same_work_at_once_only_one_does_it(
    server: Server, tmp_path: Path
) -> None:
    client = fill(server, "Thing", 120, n=0)
    (tmp_path / "once.py").write_text(
        "import bulkup\n"
        "@bulkup.updater(kind='Thing')\n"
        "def once(entity):\n"
        "    entity['n'] += 1\n"
        "    return entity\n"
    )
    shell = Shell(tmp_path, server)
    both = [
        shell.begin("run", "once.py", "--batch-size", 3, "--state-dir", tmp_path / name)
        for name in ("a", "b")
    ]
    codes = sorted(ended(process).code for process in both)
    # Both 0: the second came when the first had ended, and did the work as a run of its own.
    runs = len(records(server))
    assert (codes, runs) in (([0, 11], 1), ([0, 10], 1), ([0, 0], 2))
    assert {e["n"] for e in everything(client, "Thing")} == {runs}
