"""Steering a run from another process: by its folder, and by its record alone."""

from __future__ import annotations

import json
import re
import shlex
import threading
import time
from pathlib import Path

import pytest
from google.cloud import datastore

from tests.cli.shell import BUMP, Shell, ended, seed
from tests.conftest import Server

pytestmark = pytest.mark.sampled(5)

SLOW = BUMP.replace(
    "def handle_entity(self, entity):",
    "def handle_entity(self, entity):\n        import time; time.sleep(0.02)",
)


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    shell = Shell(tmp_path, embedded)
    shell.write("slow.py", SLOW)
    seed(embedded, SIZE)
    return shell


SIZE = 150


class Running:
    """A run in a process of its own, whose lines of JSON are read as they come."""

    def __init__(self, shell: Shell, *words: str) -> None:
        self.process = shell.begin(*words, "--json")
        self.lines: list[tuple[float, dict[str, object]]] = []
        self._came = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        self.run_id = str(self.wait_for("start")["run_id"])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            with self._came:
                self.lines.append((time.monotonic(), json.loads(text)))
                self._came.notify_all()
        with self._came:
            self._is_over = True
            self._came.notify_all()

    def wait_for(self, kind: str, timeout_s: float = 100) -> dict[str, object]:
        with self._came:
            self._came.wait_for(lambda: self.of(kind) or self._is_over, timeout_s)
            assert self.of(kind), self.lines
            return self.of(kind)[-1]

    def of(self, kind: str) -> list[dict[str, object]]:
        return [line for _, line in self.lines if line["type"] == kind]

    def code(self) -> int:
        self.process.wait(100)
        self._thread.join(100)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return self.process.returncode


def total(client: datastore.Client) -> int:
    return sum(item["n"] for item in client.query(kind="Item").fetch())


def test_a_pause_from_another_process_stops_commits_within_a_second(
    shell: Shell, embedded: Server
) -> None:
    client = embedded.client()
    before = total(client)
    run = Running(shell, "run", "slow.py", "--batch-size", "5")
    run.wait_for("progress")
    result = shell.bulkup("pause", run.run_id)
    assert result.code == 0, result
    assert re.fullmatch(
        rf"Run {run.run_id} of Bump is paused\.\nContinue it: bulkup continue {run.run_id}\n",
        result.out,
    )
    paused = run.wait_for("steered")
    assert paused["state"] == "paused"
    written = total(client)
    assert 0 < written - before < SIZE
    # The run says when it was paused, and this machine's clock when it was asked.
    assert seconds_between(str(paused["asked_at"]), str(paused["time"])) < 1
    shown = run.wait_for("progress")
    while "paused by" not in str(shown["waiting"]):
        shown = run.wait_for("progress")
    assert total(client) == written
    again = shell.bulkup("pause", run.run_id)
    assert "is already paused (by " in again.out
    assert shell.bulkup("tune", run.run_id, "--max-rate", "off", "--batch-size", "7").code == 0
    result = shell.bulkup("continue", run.run_id[:-1])
    assert result.out == f"Run {run.run_id} of Bump works again.\n"
    assert run.code() == 0
    assert total(client) == before + SIZE
    assert [line["verb"] for line in run.of("steered")] == ["pause", "tune", "continue"]
    over = shell.bulkup("pause", run.run_id)
    over.fails(10, f"run {run.run_id} is finished, so there is nothing to pause")


def seconds_between(first: str, second: str) -> float:
    from datetime import datetime

    times = [datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (first, second)]
    return (times[1] - times[0]).total_seconds()


def test_a_cancelled_run_ends_with_12_and_is_resumed(shell: Shell, embedded: Server) -> None:
    client = embedded.client()
    before = total(client)
    run = Running(shell, "run", "slow.py", "--batch-size", "5")
    run.wait_for("progress")
    result = shell.bulkup("cancel", run.run_id)
    assert (result.code, run.code()) == (0, 12)
    assert f"Run {run.run_id} of Bump is cancelled." in result.out
    assert f"bulkup resume {run.run_id}; give it up: bulkup abandon {run.run_id}" in result.out
    (summary,) = run.of("summary")
    assert str(summary["reason"]).startswith("cancelled by ")
    assert str(summary["headline"]) == "Cancelled; nothing is lost."
    assert summary["next_steps"] == [f"bulkup resume {run.run_id} --batch-size 5"]
    shell.bulkup("tune", run.run_id, "--max-rate", "9").fails(2, "so it cannot tune", "resume")
    assert shell.bulkup("resume").code == 0
    assert total(client) == before + SIZE


def test_the_command_that_resumes_a_tuned_run_does_not_undo_the_tuning(
    shell: Shell, embedded: Server
) -> None:
    run = Running(shell, "run", "slow.py", "--batch-size", "5", "--max-rate", "900")
    run.wait_for("progress")
    assert shell.bulkup("tune", run.run_id, "--max-rate", "40").code == 0
    assert (shell.bulkup("cancel", run.run_id).code, run.code()) == (0, 12)
    (summary,) = run.of("summary")
    assert summary["next_steps"] == [f"bulkup resume {run.run_id} --batch-size 5"]
    assert "--max-rate" not in shell.bulkup("show", run.run_id).out
    resumed = Running(shell, *str(summary["next_command"]).split()[1:])
    limits = {line["limit_why"] for line in [resumed.wait_for("progress")["vitals"]]}  # type: ignore
    assert limits == {"--max-rate"}
    resumed.process.terminate()
    assert resumed.code() == 143


def test_the_command_that_resumes_a_tuned_group_does_not_undo_the_tuning(
    shell: Shell, embedded: Server
) -> None:
    for namespace in ("a", "b"):
        seed(embedded, SIZE, namespace=namespace)
    words = ("--namespaces", "[ab]", "--batch-size", "5", "--max-rate", "900")
    run = Running(shell, "run", "slow.py", *words)
    run.wait_for("progress")
    group = run.run_id.partition("@")[0]
    assert shell.bulkup("tune", group, "--max-rate", "40").code == 0
    assert (shell.bulkup("cancel", group).code, run.code()) == (0, 12)
    (summary,) = run.of("group")
    (command,) = summary["next_steps"]  # type: ignore[misc]
    assert command == ("bulkup run slow.py --namespaces '[ab]' --batch-size 5 --max-rate 40")
    _resumes_with_limit(shell, command, 40)


def test_the_command_that_resumes_tuned_migrations_does_not_undo_the_tuning(
    shell: Shell, embedded: Server
) -> None:
    shell.write("updaters/0001_slow.py", SLOW)
    run = Running(shell, "migrate", "--batch-size", "5", "--max-rate", "900")
    run.wait_for("progress")
    assert shell.bulkup("tune", run.run_id, "--max-rate", "40").code == 0
    assert (shell.bulkup("cancel", run.run_id).code, run.code()) == (0, 12)
    (result,) = run.of("migrate")
    (command,) = result["next_steps"]  # type: ignore[misc]
    assert command == "bulkup migrate updaters --batch-size 5 --max-rate 40"
    _resumes_with_limit(shell, command, 40)


def test_the_command_that_resumes_a_tuned_run_in_ranges_does_not_undo_the_tuning(
    shell: Shell, embedded: Server
) -> None:
    words = ("--ranges", "3", "--batch-size", "5", "--max-rate", "900")
    run = Running(shell, "run", "slow.py", *words)
    run.wait_for("progress")
    assert shell.bulkup("tune", run.run_id, "--max-rate", "40").code == 0
    assert (shell.bulkup("cancel", run.run_id).code, run.code()) == (0, 12)
    (summary,) = run.of("summary")
    assert summary["next_steps"] == [f"bulkup resume {run.run_id} --batch-size 5"]


def _resumes_with_limit(shell: Shell, command: str, limit: float) -> None:
    resumed = Running(shell, *shlex.split(command)[1:])
    vitals = resumed.wait_for("progress")["vitals"]
    assert (vitals["limit_why"], vitals["limit_per_s"]) == ("--max-rate", limit)  # type: ignore[index]
    resumed.process.terminate()
    assert resumed.code() == 143


def test_a_run_without_a_record_is_paused_and_leaves_none(shell: Shell, embedded: Server) -> None:
    client = embedded.client()
    before = total(client)
    run = Running(shell, "run", "slow.py", "--batch-size", "5", "--no-record")
    run.wait_for("progress")
    assert "is paused" in shell.bulkup("pause", run.run_id).out
    run.wait_for("steered")
    written = total(client)
    assert 0 < written - before < SIZE
    run.process.terminate()
    assert run.code() == 143
    resumed = Running(shell, "resume")
    while "paused by" not in str(resumed.wait_for("progress")["waiting"]):
        pass
    assert total(client) == written
    assert "works again" in shell.bulkup("continue", resumed.run_id).out
    assert resumed.code() == 0
    assert total(client) == before + SIZE
    assert list(client.query(kind="BulkupRun").fetch()) == []
    assert list(client.query(kind="BulkupClaim").fetch()) == []


def test_a_run_of_another_machine_is_steered_through_its_record(
    shell: Shell, embedded: Server, tmp_path: Path
) -> None:
    client = embedded.client()
    before = total(client)
    run = Running(shell, "run", "slow.py", "--batch-size", "5", "--max-rate", "20")
    other = Shell(tmp_path / "elsewhere", embedded)
    other.folder.mkdir()
    result = other.bulkup("pause", run.run_id)
    assert f"Run {run.run_id} of Bump is paused." in result.out, result
    paused = run.wait_for("steered")
    assert seconds_between(str(paused["asked_at"]), str(paused["time"])) < 8
    assert other.bulkup("tune", run.run_id, "--max-rate", "off").code == 0
    assert not list(other.folder.glob(".bulkup/*"))
    assert "works again" in other.bulkup("continue", run.run_id).out
    assert run.code() == 0
    assert total(client) == before + SIZE
    other.bulkup("continue", run.run_id).fails(10, "is finished, so there is nothing to continue")
    other.bulkup("continue", "20260101-000000-0000ab").fails(10, "there is no run")


def test_a_killed_run_stays_paused(shell: Shell, embedded: Server) -> None:
    client = embedded.client()
    before = total(client)
    run = Running(shell, "run", "slow.py", "--batch-size", "5")
    shell.bulkup("pause", run.run_id)
    run.wait_for("steered")
    run.process.kill()
    run.code()
    resumed = Running(shell, "resume")
    line = resumed.wait_for("steered")
    assert line["verb"] == "resume"
    assert f"continue with: bulkup continue {run.run_id}" in str(line["message"])
    resumed.process.terminate()
    assert resumed.code() == 143
    result = shell.bulkup("continue", run.run_id)
    assert (
        f"is not paused any more, and nobody works on it.\nWork on it: bulkup resume {run.run_id}"
        in (result.out)
    )
    assert shell.bulkup("resume").code == 0
    assert total(client) == before + SIZE


def test_the_run_of_a_group_is_steered_by_the_id_of_the_group(
    shell: Shell, embedded: Server
) -> None:
    for namespace in ("a", "b"):
        client = embedded.client(namespace=namespace)
        client.put_multi([datastore.Entity(client.key("Item", i)) for i in range(1, 4)])
    shell.write(
        "slow.py", SLOW.replace('entity["n"]', 'entity["i"]').replace("+= self.step", "= 1")
    )
    process = shell.begin("run", "slow.py", "--namespaces", "[ab]", "--window", closed_window(),
                          "--json")  # fmt: skip
    assert process.stdout is not None
    lines = (json.loads(text) for text in process.stdout)
    line = next(line for line in lines if line["type"] == "held")
    assert str(line["why"]).startswith("outside the window ")
    group = str(line["run_id"]).partition("@")[0]
    assert "is cancelled" in shell.bulkup("cancel", group).out
    rest = list(lines)
    assert process.wait(100) == 12
    (summary,) = [line for line in rest if line["type"] == "group"]
    assert [space["state"] for space in summary["namespaces"]] == ["stopped", "not begun"]
    ended(process)


@pytest.mark.parametrize("words", [["migrate"], ["undo"], ["run", "again.py", "--until-clean"]])
def test_every_command_that_executes_runs_ends_with_12(
    shell: Shell, embedded: Server, words: list[str]
) -> None:
    before = total(embedded.client())
    shell.write("updaters/0001_slow.py", BUMP)
    shell.write("again.py", f"{BUMP}\n    idempotent = True\n")
    if words == ["undo"]:
        shell.write("bump.py", BUMP)
        assert shell.bulkup("run", "bump.py").code == 0
        words = ["undo", shell.runs()[-1], "--yes"]
        before += SIZE
    process = shell.begin(*words, "--window", closed_window(), "--json")
    assert process.stdout is not None
    lines = (json.loads(text) for text in process.stdout)
    held = next(line for line in lines if line["type"] == "held")
    assert shell.bulkup("cancel", held["run_id"]).code == 0
    rest = list(lines)
    assert process.wait(100) == 12, rest
    ended(process)
    assert total(embedded.client()) == before


def closed_window() -> str:
    """A window that opens in half a day."""
    hour = (time.gmtime().tm_hour + 12) % 24
    return f"{hour:02}:00-{hour:02}:30 UTC"


def test_a_read_only_state_directory_leaves_the_record(
    shell: Shell, embedded: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bulkup.core.errors import StateError
    from bulkup.core.steering import Verb
    from bulkup.runs import steer as steering
    from bulkup.runs.target import TargetOptions

    run = Running(shell, "run", "slow.py", "--batch-size", "5", "--max-rate", "20")

    def refuse(*_: object, **__: object) -> None:
        raise StateError("read-only")

    monkeypatch.setattr(steering, "change_steering", refuse)
    monkeypatch.setattr(steering, "adopt_steering", refuse)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    result = steering.steer(
        run.run_id,
        steering.Change(Verb.CANCEL),
        state_dir=shell.state_dir,
        target=TargetOptions(embedded.project),
    )
    assert result.changed
    assert run.code() == 12
