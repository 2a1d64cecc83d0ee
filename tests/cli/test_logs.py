"""`bulkup logs`: what happened in a run, and what happens in one that is worked on."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Result, Shell, ended, seed
from tests.conftest import Server
from tests.report.samples import HOSTILE, dangers

pytestmark = [pytest.mark.sampled(5), pytest.mark.client_side]

WAITS = """
    import time
    from pathlib import Path
    from bulkup import Updater

    class Waits(Updater):
        max_failures = -1

        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            self.log(f"saw {entity.key.id}")
            if entity.key.id == 2:
                raise ValueError(Path("says").read_text())
            while entity.key.id == 3 and not Path("go").exists():
                time.sleep(0.05)
            entity["n"] = 1
            self.put(entity)
"""


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    seed(embedded, 4)
    shell = Shell(tmp_path, embedded)
    shell.write("waits.py", WAITS)
    shell.write("says", "no \x1b[2J [bold]x")
    return shell


def run_that_waits(shell: Shell) -> subprocess.Popen[str]:
    run = shell.begin("run", "waits.py", "--json", "--batch-size", "1")
    assert run.stdout is not None
    while '"type": "failure"' not in run.stdout.readline():
        assert run.poll() is None
    return run


def lines_until(process: subprocess.Popen[str], text: str) -> list[str]:
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while text not in lines[-1]:
        assert lines[-1], lines
        lines.append(process.stdout.readline())
    return lines


def test_logs_of_a_finished_run(shell: Shell) -> None:
    shell.write("go", "")
    assert shell.bulkup("run", "waits.py").code == 3
    result = shell.bulkup("logs")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert "Waits started by " in lines[0]
    assert [line[20:28].strip() for line in lines] == [
        "start", "log", "failure", "log", "log", "log", "end",
    ]  # fmt: skip
    assert "Key('Item', 2): ValueError: no \\x1b[2J [bold]x" in result.out
    assert "finished after" in lines[-1]
    (run_id,) = shell.runs()
    as_json = shell.bulkup("logs", run_id[:15], "--json")
    keeps_the_contract(as_json.lines)
    assert {line["run_id"] for line in as_json.lines} == {run_id}
    assert as_json.of_type("failure")[0]["typed_key"]["path"] == [["Item", 2]]
    for words, count in (
        (["--failures"], 1),
        (["--warnings"], 0),
        (["--failures", "--warnings", "--grep", "^x"], 0),
        (["--grep", r"saw [34]"], 2),
        (["--lines", "2"], 2),
        (["--lines", "0"], 0),
    ):
        assert len(shell.bulkup("logs", *words).out.splitlines()) == count, words
    assert shell.bulkup("logs", "-f").out == result.out
    assert "is not a regular expression" in shell.bulkup("logs", "--grep", "(").err
    shell.bulkup("logs", "nosuchrun").fails(10, "there is no run 'nosuchrun'")


def test_follow_prints_what_happens_and_ends_with_the_run(shell: Shell) -> None:
    run = run_that_waits(shell)
    follower = shell.begin("logs", "-f")
    seen = lines_until(follower, " failure ")
    assert "Waits started" in seen[0]
    shell.write("go", "")
    assert follower.stdout is not None
    rest = follower.stdout.read()
    assert ended(follower) == Result(0, "", "")
    assert "finished after" in rest.splitlines()[-1]
    assert ended(run).code == 3
    assert shell.bulkup("logs").out == "".join(seen) + rest


def test_ctrl_c_ends_follow_quietly_and_the_run_continues(shell: Shell) -> None:
    run = run_that_waits(shell)
    follower = shell.begin("logs", "-f", "--json")
    lines_until(follower, '"failure"')
    follower.send_signal(signal.SIGINT)
    rest = ended(follower)
    assert (rest.code, rest.err) == (130, "")
    assert run.poll() is None
    shell.write("go", "")
    assert ended(run).code == 3


def test_follow_ends_when_the_process_of_the_run_is_killed(shell: Shell) -> None:
    run = run_that_waits(shell)
    follower = shell.begin("logs", "-f")
    lines_until(follower, " failure ")
    run.kill()
    rest = ended(follower)
    assert rest.code == 0
    assert " end " not in rest.out
    ended(run)


def test_hostile_strings_are_inert(shell: Shell) -> None:
    shell.write("go", "")
    shell.write("says", HOSTILE.encode("utf-8", "replace").decode())
    shell.bulkup("run", "waits.py")
    out = shell.bulkup("logs").out
    assert not dangers(out.replace("\n", ""))
    assert "owned" in out


def test_a_run_of_an_earlier_version_has_no_log_and_that_is_said(shell: Shell) -> None:
    shell.write("go", "")
    shell.bulkup("run", "waits.py")
    (run_id,) = shell.runs()
    (shell.state_dir / run_id / "events.jsonl").unlink()
    result = shell.bulkup("logs")
    assert (result.code, result.out) == (0, "")
    assert f"Run {run_id} has no log" in result.err


def test_the_logs_of_a_group_are_one_by_time_and_cannot_be_followed(
    tmp_path: Path, embedded: Server
) -> None:
    for namespace in ("a", "b"):
        seed(embedded, 2, namespace=namespace)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP)
    assert shell.bulkup("run", "bump.py", "--namespaces", "[ab]").code == 0
    group = shell.runs()[-1].partition("@")[0]
    lines = shell.bulkup("logs", group).out.splitlines()
    assert [line.split()[0] for line in lines] == [f"{group}@a"] * 2 + [f"{group}@b"] * 2
    refused = shell.bulkup("logs", group, "-f")
    assert refused.code == 2
    assert "is a group of runs" in refused.err
    keeps_the_contract(shell.bulkup("logs", group, "--json").lines)
