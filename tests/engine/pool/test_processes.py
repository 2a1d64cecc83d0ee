"""`--processes`: the handler runs in worker processes, and what a run promises stays the same."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.core.errors import UsageError
from bulkup.core.events import Event, Logged, Report, Warned
from bulkup.core.model import RunState
from bulkup.datastore.keys import key_bytes, key_of
from bulkup.datastore.pages import PageResult
from bulkup.engine.handled import Handled
from bulkup.engine.pool.pool import WorkerDiedError, WorkerPool
from bulkup.state.kinds import MARKER_KIND, RUN_KIND
from tests.chaos.proxy import Action, Pass, Refuse, Seen, proxy_to
from tests.conftest import Server
from tests.engine import updaters
from tests.engine.conftest import Run, everything, fill

pytestmark = [pytest.mark.sampled(2), pytest.mark.client_side]


@pytest.fixture(params=["EM", "LF"])
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue({"EM": "embedded", "LF": "lf"}[request.param])
    return server


def numbers(server: Server, name: str = "n", kind: str = "Thing") -> list[Any]:
    return [entity[name] for entity in everything(server.client(), kind)]


def test_one_shard_keeps_both_workers_busy_and_each_entity_is_done_once(
    server: Server, run: Run
) -> None:
    fill(server, "Thing", 400, n=0)
    report = run(server, updaters.Stamp, processes=2)
    assert (report.success, report.counts.handled, report.counts.puts) == (True, 400, 400)
    assert numbers(server) == [1] * 400
    by = set(numbers(server, "by"))
    assert len(by) == 2
    assert os.getpid() not in by
    assert everything(server.client(), MARKER_KIND) == []


def test_no_worker_outlives_its_run(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 100, n=0)
    run(embedded, updaters.Stamp, processes=3)
    for pid in set(numbers(embedded, "by")):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.chaos
def test_shards_and_processes_go_together(server: Server, run: Run) -> None:
    fill(server, "Thing", 1500, n=0)
    report = run(server, updaters.Stamp, processes=2, shards=4, batch_size=50)
    assert (report.success, report.counts.handled) == (True, 1500)
    assert numbers(server) == [1] * 1500


def test_failures_log_lines_and_their_order_are_those_of_one_process(
    server: Server, run: Run, tmp_path: Path
) -> None:
    def work(processes: int, where: Server) -> tuple[Report, list[str], list[Any]]:
        lines: list[str] = []

        def listen(event: Event) -> None:
            if isinstance(event, Logged):
                lines.append(event.line)

        fill(where, "Thing", 130, n=0)
        report = run(
            where, updaters.Mixed, processes=processes, batch_size=30, listener=listen,
            state_dir=tmp_path / str(processes),
        )  # fmt: skip
        return report, lines, [(e.key.id, dict(e)) for e in everything(where.client(), "Thing")]

    one, one_lines, one_data = work(1, replace(server, project=f"{server.project}-1"))
    two, two_lines, two_data = work(2, replace(server, project=f"{server.project}-2"))
    assert one.failures
    assert [(f.key, f.step, f.error, f.traceback) for f in two.failures] == [
        (f.key, f.step, f.error, f.traceback) for f in one.failures
    ]
    assert two_lines == one_lines == [f"at {i}" for i in range(1, 131)]
    assert (two.counts, two.log_lines, two.exit_code) == (one.counts, one.log_lines, one.exit_code)
    assert two_data == one_data


@pytest.mark.chaos
def test_new_entities_of_several_workers_are_all_there(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 400, n=0)
    run(embedded, updaters.Mixed, processes=2)
    assert len(everything(embedded.client(), "Made")) == 40


def test_the_first_failure_stops_the_run_behind_what_was_before_it(
    embedded: Server, run: Run
) -> None:
    fill(embedded, "Thing", 300, n=0)
    report = run(embedded, updaters.Mixed, processes=2, max_failures=0)
    assert (report.state, report.exit_code) == (RunState.FAILED, 1)
    assert "stopped at the first failure" in report.reason
    assert "Thing 3" in report.reason or "3" in report.reason
    assert numbers(embedded)[:3] == [1, 1, 0]


def test_nobody_elses_write_is_lost(server: Server, run: Run) -> None:
    fill(server, "Thing", 120, n=0, touched=False)
    report = run(server, updaters.Raced, processes=2, batch_size=40)
    assert report.success
    assert report.counts.conflicts == 12
    assert numbers(server) == [1] * 120
    assert sum(numbers(server, "touched")) == 12


def test_writes_to_entities_that_other_chunks_have_are_not_lost(server: Server, run: Run) -> None:
    fill(server, "Thing", 90, n=0, got=0)
    report = run(server, updaters.ToTheNext, processes=2, batch_size=30)
    assert report.success
    assert numbers(server) == [1] * 90
    assert numbers(server, "got") == [0] + [1] * 89


@pytest.mark.chaos
def test_writes_of_all_to_one_entity_are_all_there(server: Server, run: Run) -> None:
    fill(server, "Thing", 25, n=0)
    fill(server, "Total", 1, n=0)
    report = run(server, updaters.IntoOne, processes=2)
    assert report.success
    assert numbers(server) == [1] * 25
    assert numbers(server, kind="Total") == [25]


def test_counters_that_handlers_make_count_each_entity_once(server: Server, run: Run) -> None:
    fill(server, "Thing", 40, n=0)
    report = run(server, updaters.IntoGroups, processes=2, shards=2)
    assert report.reason == ""
    assert numbers(server, kind="Group") == [13, 14, 13]


def test_entities_that_move_within_the_query_are_handled_once(server: Server, run: Run) -> None:
    fill(server, "Thing", 150, n=lambda i: i, times=0)
    report = run(server, updaters.away, processes=2, batch_size=20)
    assert report.counts.handled == 150
    assert numbers(server, "times") == [1] * 150
    assert any("orders or ranges on (n)" in warning for warning in report.warnings)


@pytest.mark.chaos
def test_an_entity_that_its_array_gives_often_is_handled_once(server: Server, run: Run) -> None:
    fill(server, "Thing", 60, tags=lambda i: [i, i + 7, i + 30], times=0)
    report = run(server, updaters.by_tags, processes=2, batch_size=9)
    assert report.counts.handled == 60
    assert numbers(server, "times") == [1] * 60
    assert not report.warnings


@pytest.mark.chaos
def test_a_moving_query_resumes_after_a_stop(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 150, n=lambda i: i, times=0)
    run(embedded, updaters.away, processes=2, batch_size=20, limit=70)
    report = run(embedded, updaters.away, processes=3, batch_size=20)
    assert report.counts.handled == 150
    assert numbers(embedded, "times") == [1] * 150


@pytest.mark.chaos
def test_deletes_of_a_keys_only_query(server: Server, run: Run) -> None:
    fill(server, "Thing", 120)
    assert run(server, updaters.drop, processes=2).counts.deletes == 120
    assert everything(server.client(), "Thing") == []


@pytest.mark.one_in(2)
@pytest.mark.parametrize("shards", [3, 1])
def test_a_limit_is_exact_and_resume_continues(server: Server, run: Run, shards: int) -> None:
    fill(server, "Thing", 300, n=0)
    first = run(server, updaters.Stamp, processes=2, limit=137, shards=shards, batch_size=40)
    assert (first.state, first.counts.handled) == (RunState.STOPPED, 137)
    assert sorted(numbers(server)) == [0] * 163 + [1] * 137
    second = run(server, updaters.Stamp, processes=3, batch_size=40)
    assert (second.run_id, second.counts.handled) == (first.run_id, 300)
    assert numbers(server) == [1] * 300
    assert everything(server.client(), MARKER_KIND) == []


@pytest.mark.chaos
def test_what_a_handler_prints_goes_where_it_went(
    embedded: Server, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(embedded, "Thing", 60, n=0)
    assert run(embedded, updaters.Prints, processes=2).success
    printed = capsys.readouterr()
    expected = {f"ünder way: {i}" for i in range(1, 61)} | {f"raw {i}" for i in range(1, 61)}
    assert set(printed.out.splitlines()) == expected
    assert set(printed.err.splitlines()) == {f"also {i}" for i in range(1, 61)}


def test_parameters_and_what_get_query_sets_are_there_in_every_worker(
    embedded: Server, run: Run
) -> None:
    fill(embedded, "Thing", 50, n=0)
    assert run(embedded, updaters.KeepsState, processes=2, params={"step": 3}).success
    assert numbers(embedded) == [103] * 50


def test_an_updater_that_no_worker_can_load_is_refused_before_the_run_starts(
    embedded: Server, run: Run
) -> None:
    fill(embedded, "Thing", 5, n=0)

    @bulkup.updater(kind="Thing")
    def closure(entity: Entity) -> Entity:
        return entity

    typed: dict[str, Any] = {"Stamp": updaters.Stamp, "__name__": "__console__"}
    exec("class Typed(Stamp): pass", typed)
    for updater, why in ((closure, "inside a function"), (typed["Typed"], "not defined in a file")):
        with pytest.raises(UsageError, match=why):
            run(embedded, updater, processes=2)
    assert everything(embedded.client(), RUN_KIND) == []


def test_a_file_that_changed_since_it_was_loaded_is_not_mixed_with_what_it_was(
    embedded: Server, run: Run, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 5, n=0)
    path = tmp_path / "changing.py"
    shutil.copy(updaters.__file__, path)
    path.write_text(path.read_text() + "\nChanging.change()\n")
    report = run(embedded, f"{path}:Changing", processes=2)
    assert (report.state, report.exit_code) == (RunState.FAILED, 1)
    assert "changing.py has changed since this run loaded it" in report.reason
    assert numbers(embedded) == [0] * 5


def test_a_dry_run_stays_in_one_process_and_says_so(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 5, n=0)
    report = run(embedded, updaters.Stamp, processes=2, dry_run=True)
    assert report.counts.puts == 5
    assert any("--processes" in warning for warning in report.warnings)
    assert numbers(embedded) == [0] * 5


def _refusing_lookups(code: grpc.StatusCode) -> Callable[[Seen], Action]:
    return lambda seen: Refuse(code) if seen.method == "Lookup" else Pass()


def _behind_a_proxy(
    server: Server, run: Run, code: grpc.StatusCode, **options: Any
) -> tuple[Report, list[Event]]:
    events: list[Event] = []
    with proxy_to(server.host) as proxy:

        def listen(event: Event) -> None:
            events.append(event)
            if type(event).__name__ == "RunStarted":
                proxy.faults = _refusing_lookups(code)

        there = replace(server, host=proxy.address)
        report = run(there, updaters.Reads, processes=2, listener=listen, **options)
    return report, events


def test_a_read_of_the_handlers_own_that_is_refused_fails_the_entity(
    embedded: Server, run: Run
) -> None:
    fill(embedded, "Thing", 30, n=0)
    report, _ = _behind_a_proxy(embedded, run, grpc.StatusCode.PERMISSION_DENIED)
    assert report.counts.failed == 30
    assert numbers(embedded) == [0] * 30


@pytest.mark.chaos
def test_a_datastore_unavailable_to_a_handlers_read_ends_the_run_and_fails_no_entity(
    embedded: Server, run: Run
) -> None:
    fill(embedded, "Thing", 30, n=0)
    report, events = _behind_a_proxy(embedded, run, grpc.StatusCode.UNAVAILABLE, retry_for_s=2.5)
    assert (report.state, report.counts.failed) == (RunState.FAILED, 0)
    assert report.retries > 0
    warned = [event.message for event in events if isinstance(event, Warned)]
    assert warned == ["the error in full: refused by the proxy"]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("shards", [2, 1])
def test_nothing_is_skipped_when_a_worker_dies_over_an_entity_that_others_wrote(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    """What the other workers have handled by then follows a batch with an unknown outcome."""

    def die(workers: WorkerPool, item: Handled, result: Any) -> None:
        until = time.monotonic() + 30
        while workers._chunks and time.monotonic() < until:
            workers.pump()
        raise WorkerDiedError("worker process 1 was ended")

    fill(server, "Thing", 200, n=0, touched=False)
    options = {"processes": 2, "batch_size": 5, "in_flight": 8, "shards": shards}
    with monkeypatch.context() as patched:
        patched.setattr(WorkerPool, "handle_again", die)
        assert run(server, updaters.Raced, **options).reason == "worker process 1 was ended"
    assert run(server, updaters.Raced, **options).success
    assert numbers(server) == [1] * 200


@pytest.mark.chaos
def test_an_answer_that_nobody_waits_for_any_more_is_not_taken_for_another(
    embedded: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker dies while another handles an entity again; then a further one is handled again,
    on the way to the run's end."""
    again, got = WorkerPool.handle_again, []

    def found_dead(workers: WorkerPool) -> None:
        raise WorkerDiedError("worker process 1 was ended")

    def handle_again(workers: WorkerPool, item: Handled, result: Any) -> None:
        first = PageResult.FromString(result.SerializeToString())
        other = key_of(first.entity.key)
        other.path[-1].id = 999
        first.entity.key = key = key_bytes(other)
        with monkeypatch.context() as patched:
            patched.setattr(WorkerPool, "pump", found_dead)
            with pytest.raises(WorkerDiedError):
                again(workers, Handled(key, b""), first)
        again(workers, item, result)
        got.append((item.key, [write.key for write in item.writes]))

    fill(embedded, "Thing", 100, n=0, touched=False)
    monkeypatch.setattr(WorkerPool, "handle_again", handle_again)
    run(embedded, updaters.Raced, processes=2, batch_size=10)
    assert len(got) == 10
    assert all(written == [key] for key, written in got)


@pytest.mark.chaos
def test_a_worker_that_is_found_dead_before_its_last_answer_is_read(
    embedded: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = WorkerPool._take_done
    late: list[Any] = []

    def done_later(workers: WorkerPool, worker: Any, frame: Any) -> None:
        if not late:
            late.append((worker, frame))
            os.kill(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
            workers._inbox.append((worker, frame))
            workers._note_end(worker)
        done(workers, worker, frame)

    fill(embedded, "Thing", 200, n=0)
    with monkeypatch.context() as patched:
        patched.setattr(WorkerPool, "_take_done", done_later)
        assert "was ended by SIGKILL" in run(embedded, updaters.Stamp, processes=2).reason
    assert run(embedded, updaters.Stamp, processes=2).success
    assert numbers(embedded) == [1] * 200
