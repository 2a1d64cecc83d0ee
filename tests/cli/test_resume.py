"""`bulkup resume`, `list` and `show`: resume the same run, or refuse clearly."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli.shell import BUMP, Shell, ended, refuses_to_resume, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)

PLAIN = """
    from google.cloud.datastore.query import PropertyFilter

    from bulkup import Updater

    class Plain(Updater):
        colour = "red"

        def get_query(self):
            query = self.client.query(kind="Item")
            query.add_filter(filter=PropertyFilter("colour", "=", self.colour))
            return query

        def handle_entity(self, entity):
            entity["n"] += 1
            self.put(entity)
"""


# --- which run ---


def test_resume_takes_the_latest_unfinished_run(half: Shell, lf: Server) -> None:
    first = half.runs()[0]
    seed(lf, 3, "Other")
    half.write("other.py", BUMP.replace('"Item"', '"Other"'))
    assert half.bulkup("run", "other.py", "--limit", "1").code == 75
    second = next(run for run in half.runs() if run != first)
    assert f"Run {second}" in half.bulkup("resume").err
    assert f"Run {first}" in half.bulkup("resume").err  # the other one is finished now
    assert values(lf.client()) == dict.fromkeys(range(1, 11), 2)
    assert values(lf.client(), "Other") == dict.fromkeys(range(1, 4), 1)
    refuses_to_resume(half, lf, code=10, says=("nothing to resume", "bulkup run UPDATER"))


def test_the_latest_run_is_resumed_and_listed_first_whatever_its_id(
    tmp_path: Path, embedded: Server
) -> None:
    shell = Shell(tmp_path, embedded)
    seed(embedded, 6)
    shell.write("bump.py", BUMP)
    (tmp_path / "migrations").mkdir()
    shell.write("migrations/0001_bump.py", BUMP)
    assert shell.bulkup("run", "bump.py", "--limit", "2").code == 75
    assert shell.bulkup("migrate", "migrations", "--limit", "2").code == 75
    assert shell.bulkup("list", "--json").lines[0]["run_id"].startswith("0001_bump")
    assert "Run 0001_bump" in shell.bulkup("resume").err
    assert "Run 2" in shell.bulkup("resume").err
    assert values(embedded.client()) == dict.fromkeys(range(1, 7), 2)


def test_a_run_is_found_by_a_prefix_of_its_id(half: Shell, lf: Server) -> None:
    (run,) = half.runs()
    result = half.bulkup("resume", run[:-2])
    assert result.code == 0, result
    assert values(lf.client()) == dict.fromkeys(range(1, 11), 2)


def test_an_ambiguous_prefix_is_refused(half: Shell, lf: Server) -> None:
    (run,) = half.runs()
    shutil.copytree(half.state_dir / run, half.state_dir / f"{run}0")
    refuses_to_resume(
        half, lf, run[:8], code=2, says=("matches 2 runs", run, f"{run}0", "more of the id")
    )
    half.bulkup("show", run[:8]).fails(2, "matches 2 runs")
    # One id is the beginning of the other, and still means only its own run.
    assert half.bulkup("show", run).code == 0


def test_a_finished_run_is_not_started_again(half: Shell, lf: Server) -> None:
    assert half.bulkup("resume").code == 0
    (run,) = half.runs()
    refuses_to_resume(
        half, lf, run, code=10,
        says=(f"run {run} is finished", "nothing to resume", f"bulkup show {run}"),
    )  # fmt: skip
    refuses_to_resume(half, lf, code=10, says=("nothing to resume",))


def test_without_a_state_directory_there_is_nothing_to_resume(nowhere: Shell) -> None:
    nowhere.bulkup("resume").fails(10, "nothing to resume", "--state-dir")
    nowhere.bulkup("resume", "20260101").fails(10, "no run '20260101'", "bulkup list")
    nowhere.bulkup("show", "20260101").fails(10, "no run '20260101'", "bulkup list")
    listed = nowhere.bulkup("list")
    assert (listed.code, listed.out) == (0, "")
    assert "No runs" in listed.err
    assert nowhere.runs() == []


@pytest.mark.parametrize("name", ["../up", "/etc", "*", "\x1b[31m", "no\nsuch", "["])
def test_hostile_names_of_runs_find_nothing(half: Shell, lf: Server, name: str) -> None:
    outside = half.folder / "up"
    shutil.copytree(half.state_dir / half.runs()[0], outside)
    result = half.bulkup("show", name).fails(10, "no run")
    assert "\x1b" not in result.err


def test_the_printed_command_works_for_a_state_directory_with_spaces(
    lf_shell: Shell, lf: Server
) -> None:
    import shlex

    seed(lf, 5)
    result = lf_shell.bulkup("run", "bump.py", "--limit", "2", "--state-dir", "my state; rm -rf x")
    assert result.code == 75
    (line,) = [x for x in result.out.splitlines() if x.startswith("Continue with: ")]
    command = shlex.split(line.removeprefix("Continue with: "))
    assert command[0] == "bulkup"
    assert lf_shell.bulkup(*command[1:]).code == 0
    assert values(lf.client()) == dict.fromkeys(range(1, 6), 1)


def test_a_run_is_resumed_from_another_folder(half: Shell, lf: Server, tmp_path: Path) -> None:
    elsewhere = Shell(tmp_path / "elsewhere", lf)
    elsewhere.folder.mkdir()
    result = elsewhere.bulkup("resume", "--state-dir", half.state_dir)
    assert result.code == 0, result
    assert values(lf.client()) == dict.fromkeys(range(1, 11), 2)


# --- what must be the same ---


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-p", "step=3"), ("step=2", "not step=3", "without -p")),
        (("-p", "other=3"), ("no parameter other",)),
        (("--project", "somewhere-else"), ("not on project somewhere-else", "--project")),
        (("--namespace", "elsewhere"), ("not on", "namespace elsewhere")),
        (("--database", "second"), ("not on", "database second")),
    ],
)
def test_options_that_differ_from_the_run_are_refused(
    half: Shell, lf: Server, options: tuple[str, ...], says: tuple[str, ...]
) -> None:
    run = half.runs()[0]
    refuses_to_resume(half, lf, *options, code=2, says=(f"run {run}", "start a new run", *says))
    assert half.bulkup("resume").code == 0  # the refusal changed nothing


def test_options_that_repeat_those_of_the_run_are_accepted(half: Shell, lf: Server) -> None:
    result = half.bulkup("resume", "-p", "step=2", "--project", lf.project, "--namespace", "")
    assert result.code == 0, result
    assert values(lf.client()) == dict.fromkeys(range(1, 11), 2)


def test_the_project_is_remembered(half: Shell, lf: Server) -> None:
    del half.environment["GOOGLE_CLOUD_PROJECT"]
    assert half.bulkup("resume").code == 0
    assert values(lf.client()) == dict.fromkeys(range(1, 11), 2)


def test_a_run_on_an_emulator_is_not_resumed_on_the_real_service(
    half: Shell, lf: Server, tmp_path: Path
) -> None:
    key = _service_account(tmp_path / "key.json")
    del half.environment["DATASTORE_EMULATOR_HOST"]
    result = half.bulkup("resume", env={"GOOGLE_APPLICATION_CREDENTIALS": str(key)})
    result.fails(2, f"run {half.runs()[0]}", f"with DATASTORE_EMULATOR_HOST={lf.host}")


def test_a_run_on_one_emulator_is_not_resumed_on_another(
    half: Shell, fs: Server, lf: Server
) -> None:
    half.environment["DATASTORE_EMULATOR_HOST"] = fs.host
    half.bulkup("resume").fails(2, f"DATASTORE_EMULATOR_HOST={lf.host}")


def test_another_query_is_refused(lf_shell: Shell, lf: Server) -> None:
    seed(lf, 10, colour="red")
    lf_shell.write("plain.py", PLAIN)
    assert lf_shell.bulkup("run", "plain.py", "--limit", "4").code == 75
    lf_shell.write("plain.py", PLAIN.replace("red", "blue"))
    refuses_to_resume(
        lf_shell, lf, code=2,
        says=("the query of Plain has changed since", lf_shell.runs()[0], "start a new run"),
    )  # fmt: skip
    lf_shell.write("plain.py", PLAIN)
    result = lf_shell.bulkup("resume")
    assert result.code == 0
    assert "has changed" not in result.err
    assert values(lf.client()) == dict.fromkeys(range(1, 11), 1)


def test_a_changed_source_is_reported_and_the_new_code_continues(half: Shell, lf: Server) -> None:
    half.write("bump.py", BUMP.replace("+= self.step", "+= 100 * self.step"))
    result = half.bulkup("resume")
    assert result.code == 0, result
    assert "Warning" in result.err
    assert "bump.py has changed since run" in result.err
    assert values(lf.client()) == {i: 2 if i <= 4 else 200 for i in range(1, 11)}


def test_defaults_that_changed_do_not_change_a_run(half: Shell, lf: Server) -> None:
    half.write("bump.py", BUMP.replace("param(1)", "param(50)"))
    assert half.bulkup("resume").code == 0
    assert values(lf.client()) == dict.fromkeys(range(1, 11), 2)


def test_a_deleted_updater_is_named(half: Shell, lf: Server) -> None:
    (half.folder / "bump.py").unlink()
    refuses_to_resume(half, lf, code=10, says=("no file", "bump.py"))
    half.write("bump.py", BUMP.replace("class Bump", "class Renamed"))
    refuses_to_resume(half, lf, code=10, says=("no Bump in", "Renamed"))


def test_a_running_run_is_not_resumed_by_a_second_process(lf_shell: Shell, lf: Server) -> None:
    client = seed(lf, 4)
    # Its first entity waits until the test opens the gate.
    gate = lf_shell.folder / "gate"
    lf_shell.write(
        "slow.py",
        BUMP + f"        import pathlib, time\n        print('at work', flush=True)\n"
        f"        while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)\n",
    )
    process = lf_shell.begin("run", "slow.py")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        (run,) = lf_shell.runs()
        lf_shell.bulkup("resume").fails(11, f"process {process.pid}", run)
        lf_shell.bulkup("resume", run).fails(11, f"process {process.pid}")
        (row,) = lf_shell.bulkup("list", "--json").lines
        assert row["state"] == "running"
        assert lf_shell.bulkup("show", run).code == 0
    finally:
        gate.touch()
        result = ended(process)
    assert result.code == 0
    assert values(client) == dict.fromkeys(range(1, 5), 1)


# --- list and show ---


def test_list_shows_the_latest_first(half: Shell, lf: Server) -> None:
    (run,) = half.runs()
    seed(lf, 3, "Other")
    half.write("other.py", BUMP.replace('"Item"', '"Other"').replace("Bump", "Other"))
    assert half.bulkup("run", "other.py").code == 0
    latest, older = half.bulkup("list", "--json").lines
    assert older["run_id"] == run
    assert (older["updater"], older["state"], older["handled"], older["params"]) == (
        "Bump", "stopped", 4, {"step": "2"},
    )  # fmt: skip
    assert (latest["updater"], latest["state"], latest["written"]) == ("Other", "finished", 3)
    assert lf.project in latest["target"]
    table = half.bulkup("list")
    assert table.code == 0
    assert table.err == ""
    for text in (run, "stopped", "finished", "Bump", "Other"):
        assert text in table.out


def test_show_gives_failures_with_tracebacks_and_the_log(lf_shell: Shell, lf: Server) -> None:
    seed(lf, 40)
    lf_shell.write(
        "bad.py",
        BUMP + "        self.log(f'saw {entity.key.id} \\x1b[31m')\n"
        "        if entity.key.id > 10: raise ValueError('\\x1b[31m[bold]bad')\n",
    )
    assert lf_shell.bulkup("run", "bad.py", "--max-failures", "-1").code == 3
    (run,) = lf_shell.runs()
    shown = lf_shell.bulkup("show", run)
    assert shown.code == 0
    assert "30 failed" in shown.out
    assert "ValueError" in shown.out
    assert 'bad.py", line' in shown.out
    assert "[bold]bad" in shown.out
    assert "\x1b" not in shown.out
    assert "saw 1 " in shown.out
    assert {i for i in range(11, 41) if f"Key('Item', {i})" in shown.out} == set(range(11, 41))
    *facts, summary = lf_shell.bulkup("show", run, "--json").lines
    assert summary["type"] == "summary"
    kinds = [fact["type"] for fact in facts]
    assert kinds == ["failure"] * 30 + ["log"] * summary["log_total"]


def test_show_prints_the_resume_command(half: Shell) -> None:
    (run,) = half.runs()
    shown = half.bulkup("show", run[:-3])
    assert shown.code == 0
    assert f"bulkup resume {run}" in shown.out
    assert "step=2" in shown.out


def _service_account(path: Path) -> Path:
    """A key file that is well-formed and grants no access."""
    import json

    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_text(
        json.dumps(
            {
                "type": "service_account", "project_id": "p", "private_key_id": "1",
                "private_key": pem.decode(), "client_email": "nobody@p.example.com",
                "client_id": "1", "token_uri": "http://127.0.0.1:9/token",
            }
        )
    )  # fmt: skip
    return path


# --- what the command that is proposed keeps ---

MAIL = (
    "--email-to", "a@x.example", "--email-to", "it's@x.example",
    "--email-from", "b@x.example", "--smtp", "smtp://127.0.0.1:1",
)  # fmt: skip
"""A server that is not there: that the mail was tried is a line of its own."""
FAILS = BUMP + "        if entity.key.id == 3: raise ValueError('three')\n"


@pytest.mark.client_side
def test_a_proposed_command_mails_like_the_one_before(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, 5)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", FAILS)
    stopped = shell.bulkup("run", "bump.py", *MAIL, "--json")
    (step,) = stopped.summary["next_steps"]
    assert shlex.split(step)[3:] == [*MAIL]
    finished = shell.bulkup(*shlex.split(step)[1:], "--max-failures", "1", "--json")
    assert finished.code == 3
    assert [line["channel"] for line in finished.of_type("delivery")] == ["file", "mail"]
    (step,) = finished.summary["next_steps"]
    assert shlex.split(step)[:2] == ["bulkup", "retry"]
    assert shlex.split(step)[3:] == [*MAIL]
    shell.write("bump.py", BUMP)
    retried = shell.bulkup(*shlex.split(step)[1:], "--json")
    assert retried.code == 0
    assert [line["channel"] for line in retried.of_type("delivery")] == ["file", "mail"]


@pytest.mark.client_side
def test_mail_of_the_environment_is_not_repeated_and_that_of_all_namespaces_is(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, 5)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP)
    env = {
        "BULKUP_EMAIL_TO": "a@x.example",
        "BULKUP_EMAIL_FROM": "b@x.example",
        "BULKUP_SMTP": "smtp://127.0.0.1:1",
    }
    stopped = shell.bulkup("run", "bump.py", "--limit", "2", "--json", env=env)
    (step,) = stopped.summary["next_steps"]
    assert shlex.split(step)[3:] == []
    everywhere = ("--all-namespaces", "--limit", "1", *MAIL, "--smtp-plain")
    (group,) = shell.bulkup("run", "bump.py", *everywhere, "--json").of_type("group")
    (step,) = group["next_steps"]
    for option in ("--email-to a@x.example", "--smtp smtp://127.0.0.1:1", "--smtp-plain"):
        assert option in step


@pytest.mark.client_side
def test_what_failed_before_the_stop_is_left_to_a_retry(tmp_path: Path, embedded: Server) -> None:
    client = seed(embedded, 9)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", FAILS.replace("== 3", "in (3, 4, 6)"))
    stopped = shell.bulkup("run", "bump.py", "--max-failures", "2", "--batch-size", "1")
    assert stopped.code == 1
    (run,) = shell.runs()
    assert (
        f"The other 2 entities that failed stay failed; once the run has finished, `bulkup retry "
        f"{run}` handles them again." in stopped.out
    )
    shell.write("bump.py", BUMP)
    resumed = shell.bulkup("resume")
    assert resumed.code == 3
    assert "Finished, but 2 entities failed" in resumed.out
    assert f"Next: bulkup retry {run}" in resumed.out
    assert shell.bulkup("retry", run).code == 0
    assert set(values(client).values()) == {1}


@pytest.mark.client_side
def test_a_run_that_stopped_at_a_limit_says_what_stays_failed(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, 9)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", FAILS)
    stopped = shell.bulkup(
        "run", "bump.py", "--max-failures", "2", "--limit", "5", "--state-dir", "my state"
    )
    assert stopped.code == 75
    assert "The entity that failed stays failed; once the run has finished, `bulkup" in stopped.out
    assert "--state-dir 'my state'` handles it again." in stopped.out
