"""`bulkup run --on beam` on Beam's own runner: nothing is handled twice, and success is the
records'."""

from __future__ import annotations

import json
import signal
import threading

import pytest

pytest.importorskip("apache_beam", reason="Apache Beam is not installed")

from grpc import StatusCode

from bulkup.beam import launcher
from bulkup.cli import call
from bulkup.state.ranges_seen import SEEN_NAME
from tests.beam.conftest import PROCESSES, BeamShell
from tests.chaos.proxy import Action, Pass, Refuse, Seen, proxy_to
from tests.cli.shell import ended, markers
from tests.conftest import Server


def test_a_run_in_ranges_is_finished_and_reported_as_every_run(
    beam_shell: BeamShell, embedded: Server
) -> None:
    beam_shell.seed(embedded, 600)
    result = beam_shell.run("--ranges", 5)
    assert result.code == 0, result
    assert result.summary["counts"]["handled"] == 600
    assert result.summary["state"] == "finished"
    beam_shell.once()
    assert markers(embedded) == []
    listed = beam_shell.bulkup("list", "--json").of_type("run")
    assert [run["state"] for run in listed] == ["finished"]
    again = beam_shell.run("--ranges", 5, "--once")
    assert again.code == 0
    beam_shell.once()


def test_an_undo_of_what_workers_did_is_refused_and_says_what_else_takes_it_back(
    beam_shell: BeamShell, embedded: Server
) -> None:
    """The before-images were on the workers' disks."""
    beam_shell.seed(embedded, 60)
    assert beam_shell.run("--ranges", 2).code == 0
    undone = beam_shell.bulkup("undo", beam_shell.runs()[-1], "--yes")
    assert undone.code != 0, undone
    assert "bulkup rewind" in undone.err, undone
    beam_shell.once()


def test_bundles_that_run_three_times_in_two_processes_handle_each_entity_once(
    beam_shell: BeamShell, embedded: Server
) -> None:
    beam_shell.seed(embedded, 600)
    result = beam_shell.run("--ranges", 6, runner=(*PROCESSES, "--direct_runner_bundle_repeat=2"))
    assert result.code == 0, result
    beam_shell.once()


def test_a_killed_command_is_continued_by_the_same_one(
    beam_shell: BeamShell, embedded: Server
) -> None:
    beam_shell.seed(embedded, 600)
    words = ("--ranges", 6, "-p", "pause_ms=10", "--batch-size", 20)
    process = beam_shell.begin_run(*words, runner=PROCESSES)
    beam_shell.await_handled(60, process)
    process.kill()
    ended(process)
    assert beam_shell.handled() < 600
    result = beam_shell.run(*words, runner=PROCESSES)
    assert result.code == 0, result
    beam_shell.once()


def test_ranges_that_are_split_in_the_middle_still_cover_the_query(
    beam_shell: BeamShell, embedded: Server
) -> None:
    beam_shell.seed(embedded, 600)
    splits = {"Apply/Work": {"timings": [0.7, 0.5, 0.5], "fractions": [0.5, 0.5, 0.5]}}
    result = beam_shell.run(
        "--ranges", 2, "-p", "pause_ms=10", "--batch-size", 20,
        runner=(*PROCESSES, f"--direct_test_splits={json.dumps(splits)}"),
    )  # fmt: skip
    assert result.code == 0, result
    beam_shell.once()
    assert beam_shell.own("BulkupRange") > 2


def test_a_runner_that_drops_residuals_ends_with_exit_1_and_the_rest_is_resumed(
    beam_shell: BeamShell, embedded: Server
) -> None:
    beam_shell.seed(embedded, 600)
    splits = {"Apply/Work": {"timings": [0.7], "fractions": [0.3]}}
    result = beam_shell.run(
        "--ranges", 2, "-p", "pause_ms=10", "--batch-size", 20,
        runner=(
            "--runner=tests.beam.runners.DropsResiduals", "--direct_running_mode=multi_threading",
            "--direct_num_workers=2", f"--direct_test_splits={json.dumps(splits)}",
        ),
    )  # fmt: skip
    assert result.code == 1, result
    assert result.summary["next_command"].startswith("bulkup resume ")
    assert 0 < beam_shell.handled() < 600
    assert beam_shell.bulkup("resume").code == 0
    beam_shell.once()


def test_a_runner_that_says_done_and_has_run_nothing_ends_with_exit_1(
    beam_shell: BeamShell, embedded: Server
) -> None:
    """What Beam's own does in one process, told to split."""
    beam_shell.seed(embedded, 50)
    splits = {"Apply/Work": {"timings": [0.1], "fractions": [0.5]}}
    result = beam_shell.run(
        "--ranges", 2,
        runner=("--runner=FnApiRunner", f"--direct_test_splits={json.dumps(splits)}"),
    )  # fmt: skip
    assert result.code == 1, result
    assert beam_shell.handled() == 0
    assert beam_shell.run("--ranges", 2).code == 0
    beam_shell.once()


def test_failures_within_the_budget_fail_no_bundle(beam_shell: BeamShell, embedded: Server) -> None:
    beam_shell.seed(embedded, 100)
    result = beam_shell.run("--ranges", 3, "-p", "bad=10", "--max-failures", 20)
    assert result.code == 3, result
    assert result.summary["counts"]["failed"] == 10
    assert "Beam runner has failed" not in result.out + result.err


def test_an_exhausted_budget_stops_the_run_and_fails_no_bundle(
    beam_shell: BeamShell, embedded: Server
) -> None:
    beam_shell.seed(embedded, 100)
    result = beam_shell.run("--ranges", 3, "-p", "bad=5", "--max-failures", 2)
    assert result.code == 1, result
    assert result.summary["state"] == "failed"
    assert "Beam runner has failed" not in result.out + result.err


def test_an_interrupted_command_says_how_to_continue(
    beam_shell: BeamShell, embedded: Server
) -> None:
    beam_shell.seed(embedded, 400)
    process = beam_shell.begin_run("--ranges", 4, "-p", "pause_ms=10", "--batch-size", 20)
    beam_shell.await_handled(40, process)
    process.send_signal(signal.SIGINT)
    result = ended(process, 100)
    assert result.code == 130, result
    assert "bulkup resume " in result.err
    assert beam_shell.bulkup("show", "--json").summary["ranges"] > 0  # the command has looked
    assert beam_shell.bulkup("resume").code == 0
    beam_shell.once()


def test_a_job_of_a_service_is_left_alone_by_ctrl_c(
    beam_shell: BeamShell, embedded: Server
) -> None:
    beam_shell.seed(embedded, 40)
    process = beam_shell.begin_run("--ranges", 2, runner=("--runner=tests.beam.runners.Service",))
    beam_shell.await_look(process)
    process.send_signal(signal.SIGINT)
    result = ended(process, 100)
    assert result.code == 130, result
    for part in (
        "detached: job job-1 keeps running",
        "bulkup show ",
        "bulkup cancel ",
        "bulkup resume ",
    ):
        assert part in result.err
    shown = beam_shell.bulkup("show").out
    assert shown.startswith("No process of this machine works on it: ")
    assert "others may work on it: `bulkup list --all`" in shown
    assert "0 of 2 finished" in shown
    assert beam_shell.bulkup("resume").code == 0
    beam_shell.once()


def test_a_runner_that_never_ends_is_left_alone_when_all_ranges_are_finished(
    beam_shell: BeamShell, embedded: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "HANGS_AFTER_S", 0.5)
    monkeypatch.setattr(launcher, "LOOK_EVERY_S", 0.2)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", embedded.project)
    monkeypatch.chdir(beam_shell.folder)
    beam_shell.seed(embedded, 40)
    words = ["run", "bump.py", "--on", "beam", "--ranges", "2", "--yes", "-q"]
    assert call([*words, "--", "--runner=tests.beam.runners.Hangs"]) == 0
    beam_shell.once()


def test_a_runner_that_never_ends_is_left_alone_when_datastore_is_gone(
    beam_shell: BeamShell,
    embedded: Server,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(launcher, "HANGS_AFTER_S", 0.5)
    monkeypatch.setattr(launcher, "LOOK_EVERY_S", 0.2)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", embedded.project)
    monkeypatch.chdir(beam_shell.folder)
    beam_shell.seed(embedded, 40)

    def gone(_: Seen) -> Action:
        """As soon as the command has looked how far the run is."""
        has_looked = any(beam_shell.folder.glob(f".bulkup/*/{SEEN_NAME}"))
        return Refuse(StatusCode.UNAVAILABLE) if has_looked else Pass()

    words = ["run", "bump.py", "--on", "beam", "--ranges", "2", "--yes", "--retry-for", "1"]
    with proxy_to(embedded.host) as proxy:
        proxy.faults = gone
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", proxy.address)
        assert call([*words, "--", "--runner=tests.beam.runners.Service"]) == 1
        said = " ".join("".join(capfd.readouterr()).split())
        assert "Datastore has stopped answering, but the Beam runner does not end" in said
        assert "Traceback" not in said
        proxy.faults = lambda _: Pass()
        beam_shell.environment["DATASTORE_EMULATOR_HOST"] = proxy.address
        assert beam_shell.bulkup("resume").code == 0
    beam_shell.once()


def test_ctrl_c_while_datastore_is_gone_leaves_the_job_of_a_service(
    beam_shell: BeamShell, embedded: Server
) -> None:
    beam_shell.seed(embedded, 40)
    is_missed = threading.Event()

    def gone(_: Seen) -> Action:
        is_missed.set()
        return Refuse(StatusCode.UNAVAILABLE)

    with proxy_to(embedded.host) as proxy:
        beam_shell.environment["DATASTORE_EMULATOR_HOST"] = proxy.address
        runner = ("--runner=tests.beam.runners.Service",)
        process = beam_shell.begin_run("--ranges", 2, "--retry-for", 1, runner=runner)
        beam_shell.await_look(process)
        proxy.faults = gone
        assert is_missed.wait(100)
        process.send_signal(signal.SIGINT)
        result = ended(process, 100)
        assert result.code == 130, result
        assert "detached: job job-1 keeps running" in result.err
        assert "Traceback" not in result.err
        proxy.faults = lambda _: Pass()
        assert beam_shell.bulkup("resume").code == 0
    beam_shell.once()


def test_a_run_that_is_cancelled_elsewhere_ends_its_pipeline(
    beam_shell: BeamShell, embedded: Server
) -> None:
    beam_shell.seed(embedded, 2000)
    process = beam_shell.begin_run(
        "--ranges", 4, "-p", "pause_ms=20", "--batch-size", 20, runner=PROCESSES
    )
    beam_shell.await_handled(40, process)
    assert beam_shell.bulkup("cancel", beam_shell.runs()[-1]).code == 0
    result = ended(process, 100)
    assert result.code == 12, result
    assert 0 < beam_shell.handled() < 2000


def test_a_query_that_cannot_be_cut_is_refused(beam_shell: BeamShell, embedded: Server) -> None:
    beam_shell.seed(embedded, 10)
    beam_shell.write(
        "ordered.py",
        """
        from bulkup import Updater

        class Ordered(Updater):
            def get_query(self):
                return self.client.query(kind="Item", order=["n"])

            def handle_entity(self, entity):
                entity["n"] += 1
                self.put(entity)
        """,
    )
    result = ended(beam_shell.start("run", "ordered.py", "--on", "beam", "--yes"))
    assert result.code == 2, result
    assert "Traceback" not in result.err
    assert beam_shell.run_states() == []
    assert beam_shell.handled() == 0
