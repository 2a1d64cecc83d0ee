"""`bulkup run` on real servers: what it does to entities, what it prints, how it exits."""

from __future__ import annotations

import os
import stat

import pytest

from tests.cli.shell import (
    BUMP,
    Shell,
    contents,
    markers,
    seed,
    user_data,
    values,
)
from tests.conftest import Server

pytestmark = [pytest.mark.sampled(9), pytest.mark.client_side]

BAD_SEVENS = """
    from google.cloud.datastore import Entity

    from bulkup import Updater

    class BadSevens(Updater):
        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            entity["n"] += 1
            self.put(entity)
            self.put(Entity(self.client.key("Trace", entity.key.id)))
            self.log(f"saw {entity.key.id}")
            if entity.key.id % 7 == 0:
                raise ValueError(f"seven in {entity.key.id}")
"""


def test_every_entity_is_handled_once_and_nothing_else_is_left(
    shell: Shell, server: Server
) -> None:
    client = seed(server, 30)
    result = shell.bulkup("run", "bump.py", "-p", "step=3", "--batch-size", "7")
    assert result.code == 0, result
    assert values(client) == dict.fromkeys(range(1, 31), 3)
    assert len(user_data(server)) == 30
    assert markers(server) == []
    assert "Finished: 30 entities handled, 30 written, 0 failed" in result.out
    assert "step=3" in result.out
    assert "Running Bump (Count every Item up.)" in result.err
    assert shell.runs()[0] in result.err
    assert "Running" not in result.out  # results go to stdout, progress to stderr


def test_run_state_is_readable_only_by_its_owner(shell: Shell, server: Server) -> None:
    seed(server, 3)
    os.umask(0o022)
    assert shell.bulkup("run", "bump.py").code == 0
    paths = [shell.state_dir, *shell.state_dir.rglob("*")]
    assert shell.checkpoint() in paths
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_json_is_one_object_a_line_and_nothing_else_is_on_stdout(
    shell: Shell, server: Server
) -> None:
    seed(server, 12)
    shell.write("noisy.py", BUMP + '        print("a line of the updater")\n')
    result = shell.bulkup("run", "noisy.py", "--json", "--batch-size", "5")
    assert result.code == 0, result
    kinds = [line["type"] for line in result.lines]
    assert kinds[0] == "start"
    assert kinds.count("start") == kinds.count("summary") == 1
    assert set(kinds) <= {"start", "progress", "summary", "delivery"}
    assert "progress" in kinds
    summary = result.summary
    assert summary["counts"]["handled"] == summary["counts"]["puts"] == 12
    assert (summary["state"], summary["success"], summary["exit_code"]) == ("finished", True, 0)
    assert summary["target"]["project"] == server.project
    assert result.err.count("a line of the updater") == 12


def test_quiet_leaves_the_summary(shell: Shell, server: Server) -> None:
    seed(server, 3)
    result = shell.bulkup("run", "bump.py", "-q")
    assert result.code == 0
    assert result.err == ""
    assert result.out.startswith("Finished: 3 entities handled")


def test_a_long_run_reports_progress(lf_shell: Shell, lf: Server) -> None:
    seed(lf, 6)
    lf_shell.write("slow.py", BUMP + "        import time; time.sleep(0.5)\n")
    result = lf_shell.bulkup("run", "slow.py", "--batch-size", "1", "--json")
    assert result.code == 0
    handled = [event["counts"]["handled"] for event in result.of_type("progress")]
    assert len(handled) >= 3
    assert handled == sorted(handled)
    assert any(0 < count < 6 for count in handled)


# --- failures ---


@pytest.fixture
def sevens(shell: Shell, server: Server) -> Shell:
    seed(server, 30)
    shell.write("sevens.py", BAD_SEVENS)
    return shell


def test_the_first_failure_stops_and_after_a_fix_resume_handles_it(
    sevens: Shell, server: Server
) -> None:
    client = server.client()
    stopped = sevens.bulkup("run", "sevens.py", "--batch-size", "5")
    assert stopped.code == 1, stopped
    assert "ValueError: seven in 7" in stopped.out
    assert 'sevens.py", line' in stopped.out  # the user's traceback, in the report
    assert "handle.py" not in stopped.out
    assert f"bulkup resume {sevens.runs()[0]}" in stopped.out
    assert values(client) == {i: int(i < 7) for i in range(1, 31)}
    assert sorted(values(client, "Trace")) == [1, 2, 3, 4, 5, 6]

    sevens.write("sevens.py", BAD_SEVENS.replace("% 7", "% 777"))
    resumed = sevens.bulkup("resume")
    assert resumed.code == 0, resumed
    assert "sevens.py has changed since run" in resumed.err
    assert values(client) == dict.fromkeys(range(1, 31), 1)
    assert sorted(values(client, "Trace")) == list(range(1, 31))
    assert len(user_data(server)) == 60
    assert markers(server) == []  # every answer arrived: no late copy is possible


def test_within_the_budget_the_run_continues_and_exits_with_3(
    sevens: Shell, server: Server
) -> None:
    client = server.client()
    result = sevens.bulkup("run", "sevens.py", "--max-failures", "4", "--json")
    assert result.code == 3, result
    assert values(client) == {i: int(i % 7 != 0) for i in range(1, 31)}
    assert not {7, 14, 21, 28} & values(client, "Trace").keys()  # its queued writes are dropped
    failures = result.of_type("failure")
    assert [f["key"] for f in failures] == [f"Key('Item', {i})" for i in (7, 14, 21, 28)]
    assert all(f["step"] == "handle" and "sevens.py" in f["traceback"] for f in failures)
    assert (result.summary["state"], result.summary["counts"]["failed"]) == ("finished", 4)


def test_beyond_the_budget_it_stops_and_a_larger_budget_resumes_it(
    sevens: Shell, server: Server
) -> None:
    client = server.client()
    stopped = sevens.bulkup("run", "sevens.py", "--max-failures", "2")
    assert stopped.code == 1, stopped
    assert "2 allowed" in stopped.out
    done = values(client)
    assert done == {i: int(i < 21 and i % 7 != 0) for i in range(1, 31)}
    resumed = sevens.bulkup("resume", "--max-failures", "-1", "--json")
    assert resumed.code == 3, resumed
    assert values(client) == {i: int(i % 7 != 0) for i in range(1, 31)}
    assert resumed.summary["counts"]["failed"] == 4
    assert resumed.summary["runners"] == 2


def test_log_lines_of_failed_entities_are_not_reported_twice(sevens: Shell) -> None:
    result = sevens.bulkup("run", "sevens.py", "--max-failures", "-1", "--json")
    lines = [event["line"] for event in result.of_type("log")]
    assert len(lines) == len(set(lines))
    assert result.summary["log_total"] == len(lines)


def test_a_finish_that_raises_is_reported_and_changes_no_entity(
    shell: Shell, server: Server
) -> None:
    client = seed(server, 3)
    shell.write("ends_badly.py", BUMP + "    def finish(self, success, report): 1 / 0\n")
    result = shell.bulkup("run", "ends_badly.py")
    assert result.code == 1
    assert "finish raised" in result.err
    assert "ZeroDivisionError" in result.err
    assert values(client) == dict.fromkeys(range(1, 4), 1)


# --- dry run ---


def test_a_dry_run_writes_nothing_anywhere(shell: Shell, server: Server) -> None:
    seed(server, 20)
    seed(server, 5, namespace="other")
    before = contents(server, "", "other")
    files = sorted(shell.folder.rglob("*"))
    result = shell.bulkup("run", "-n", "bump.py", "-p", "step=5", "--json")
    assert result.code == 0, result
    assert contents(server, "", "other") == before
    assert sorted(shell.folder.rglob("*")) == files
    changes = result.of_type("change")
    assert len(changes) == 20
    assert changes[0]["key"] == "Key('Item', 1)"
    assert changes[0]["changes"] == [{"name": "n", "before": "0", "after": "5"}]
    assert result.summary["dry_run"] is True
    assert result.summary["counts"]["puts"] == 20


def test_a_dry_run_shows_deletes_new_entities_and_failures(lf_shell: Shell, lf: Server) -> None:
    seed(lf, 4)
    before = contents(lf)
    lf_shell.write(
        "mixed.py",
        """
        import bulkup
        from google.cloud.datastore import Entity, Key

        @bulkup.updater(kind="Item", max_failures=-1)
        def mixed(entity):
            if entity.key.id == 1:
                return bulkup.delete(entity)
            if entity.key.id == 2:
                new = Entity(Key("Copy", "two", project=entity.key.project))
                new["note"] = "\\x1b[31mred"
                return new
            if entity.key.id == 3:
                raise ValueError("three")
        """,
    )
    result = lf_shell.bulkup("run", "--dry-run", "mixed.py")
    assert result.code == 3, result
    assert "Key('Item', 1) would be deleted" in result.out
    assert "Key('Copy', 'two') would be written" in result.out
    assert "three" in result.err
    assert "\x1b" not in result.out + result.err
    assert "nothing was written" in result.out
    assert contents(lf) == before
    assert lf_shell.runs() == []


@pytest.mark.parametrize(
    "write",
    ["self.client.put(entity)", "self.client.delete(entity.key)",
     "self.client.put_multi([entity])",
     "b = self.client.batch(); b.begin(); b.put(entity); b.commit()",
     "t = self.client.transaction(); t.begin(); t.put(entity); t.commit()"],
)  # fmt: skip
def test_a_dry_run_blocks_writes_that_bypass_bulkup(
    lf_shell: Shell, lf: Server, write: str
) -> None:
    seed(lf, 2)
    before = contents(lf)
    lf_shell.write("past.py", BUMP + f"        entity['n'] = 9; {write}\n")
    result = lf_shell.bulkup("run", "-n", "past.py")
    assert result.code == 1
    assert "this is a dry run" in result.out
    assert contents(lf) == before


# --- limits ---


def test_a_limit_stops_with_75_and_resume_continues(shell: Shell, server: Server) -> None:
    client = seed(server, 25)
    first = shell.bulkup("run", "bump.py", "--limit", "10", "--batch-size", "4")
    assert first.code == 75, first
    assert sum(values(client).values()) == 10
    command = f"bulkup resume {shell.runs()[0]}"
    assert command in first.out
    second = shell.bulkup(*command.split()[1:], "--limit", "10", "--json")
    assert second.code == 75, second
    assert second.summary["counts"]["handled"] == 20
    assert second.of_type("start")[0]["already"]["handled"] == 10
    assert shell.bulkup("resume").code == 0
    assert values(client) == dict.fromkeys(range(1, 26), 1)
    assert len(shell.runs()) == 1
    assert markers(server) == []


def test_max_time_stops_with_75_and_resume_continues(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    slow = BUMP + "        import time; time.sleep(0.4 if entity.key.id < 6 else 0)\n"
    shell.write("slow.py", slow)
    first = shell.bulkup("run", "slow.py", "--max-time", "1s", "--batch-size", "2")
    assert first.code == 75, first
    assert "--max-time" in first.out
    assert 0 < sum(values(client).values()) < 12
    assert shell.bulkup("resume").code == 0
    assert values(client) == dict.fromkeys(range(1, 13), 1)


def test_a_limit_equal_to_the_number_of_entities_leaves_every_entity_right(
    shell: Shell, server: Server
) -> None:
    client = seed(server, 10)
    result = shell.bulkup("run", "bump.py", "--limit", "10")
    assert result.code in (0, 75), result
    if result.code == 75:
        assert shell.bulkup("resume").code == 0
    assert values(client) == dict.fromkeys(range(1, 11), 1)


@pytest.mark.chaos
def test_an_old_emulator_with_25_groups_in_a_transaction_is_enough(
    legacy: Server, shell_on_legacy: Shell
) -> None:
    client = seed(legacy, 60)
    result = shell_on_legacy.bulkup("run", "bump.py", "--batch-size", "500", "--json")
    assert result.code == 0, result
    assert values(client) == dict.fromkeys(range(1, 61), 1)
    assert result.summary["counts"]["handled"] == 60
    assert len(user_data(legacy)) == 60
