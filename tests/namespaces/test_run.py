"""`bulkup run` over namespaces: once in each, whatever happens to the process."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from bulkup.state.kinds import GROUP_KIND
from tests.cli.shell import Shell, ended, seed
from tests.conftest import Server
from tests.namespaces.conftest import NAMESPACES, SMALL, Tenants, make_tenants

pytestmark = [pytest.mark.sampled(9), pytest.mark.client_side]

RUN = ("run", "bump.py", "--all-namespaces", *SMALL)


def row_of(out: str, namespace: str) -> list[str]:
    (row,) = [line for line in out.splitlines() if line.startswith(f"  {namespace} ")]
    return row.split()


def test_each_namespace_is_run_once_and_has_a_row_in_the_report(tenants: Tenants) -> None:
    result = tenants.shell.bulkup(*RUN)
    assert result.code == 0, result
    tenants.assert_each_done()
    assert tenants.markers() == []
    assert "Finished: 24 entities handled, 24 written, 0 failed" in result.out
    places = [result.out.index(f"\n  {n} ") for n in ("(default)", *NAMESPACES[1:])]
    assert places == sorted(places)
    assert row_of(result.out, "tenant-10") == ["tenant-10", "finished", "6", "6", "0"]
    assert "Namespace tenant-10 (4 of 4), run " in result.err
    (run_info,) = tenants.records("tenant-2")
    assert run_info.key.name.endswith("@tenant-2")
    (report,) = [p for p in tenants.shell.state_dir.glob("*/report.txt") if "@" not in str(p)]
    assert row_of(report.read_text(), "tenant-10") == row_of(result.out, "tenant-10")


def test_a_pattern_selects_the_namespaces_that_match(embedded_tenants: Tenants) -> None:
    tenants = embedded_tenants
    result = tenants.shell.bulkup("run", "bump.py", "--namespaces", "tenant-[12]")
    assert result.code == 0, result
    assert tenants.values() == {"": {0}, "tenant-1": {1}, "tenant-2": {1}, "tenant-10": {0}}


def test_killed_repeatedly_with_its_disk_lost_each_namespace_is_done_once(
    tenants: Tenants,
) -> None:
    shell = tenants.shell
    for namespace in ("tenant-1", "tenant-1", "tenant-2", "tenant-10"):
        assert shell.bulkup(*RUN, env={"DIE_IN": namespace}).code == -9
        shutil.rmtree(shell.state_dir)
    (group,) = tenants.records("", GROUP_KIND)
    result = shell.bulkup(*RUN)
    assert result.code == 0, result
    tenants.assert_each_done()
    assert group["group"] in result.out
    assert row_of(result.out, "tenant-2")[:5] == ["tenant-2", "finished", "6", "6", "0"]
    assert "done earlier, by" in result.out


def test_after_the_group_has_ended_the_command_starts_a_new_one(embedded_tenants: Tenants) -> None:
    for times in (1, 2):
        assert embedded_tenants.shell.bulkup(*RUN).code == 0
        embedded_tenants.assert_each_done(times)


def test_of_two_started_together_one_waits_and_no_namespace_is_repeated(
    tenants: Tenants, tmp_path: Path
) -> None:
    held = """
        import time
        from pathlib import Path
        from bulkup import Updater

        class Bump(Updater):
            def get_query(self):
                return self.client.query(kind="Item")

            def handle_entity(self, entity):
                Path("{here}/begun").touch()
                give_up = time.monotonic() + 60
                while not Path("{here}/go").exists() and time.monotonic() < give_up:
                    time.sleep(0.01)
                entity["n"] += 1
                self.put(entity)
    """.replace("{here}", str(tmp_path))
    (tmp_path / "other").mkdir()
    shells = [tenants.shell, Shell(tmp_path / "other", tenants.server)]
    for shell in shells:
        shell.write("bump.py", held)
    first = shells[0].begin(*RUN)
    while not (tmp_path / "begun").exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.01)  # between two checks for the file
    second = shells[1].begin(*RUN, "--wait", "60s")
    said = until(second, "waiting for")
    (tmp_path / "go").touch()
    results = ended(first), ended(second)
    assert [r.code for r in results] == [0, 0], (results, said)
    tenants.assert_each_done()
    assert all(len(tenants.records(namespace)) == 1 for namespace in NAMESPACES)


def until(process: subprocess.Popen[str], text: str) -> str:
    """The lines a process prints, up to the one that contains this text."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if text in line:
            return said
    raise AssertionError(f"ended, and said no {text!r}: {said}")


def test_without_wait_the_second_is_told_who_holds_the_run(embedded_tenants: Tenants) -> None:
    tenants = embedded_tenants
    assert tenants.shell.bulkup(*RUN, env={"DIE_IN": ""}).code == -9
    (run_info,) = tenants.records("")
    run_info["holder"] = run_info["holder"].replace('"machine": "', '"machine": "elsewhere-')
    tenants.client("").put(run_info)
    result = tenants.shell.bulkup(*RUN)
    assert result.code == 11, result
    assert "is working on run" in result.err
    assert tenants.values(*NAMESPACES[1:]) == {namespace: {0} for namespace in NAMESPACES[1:]}
    (same,) = tenants.records("")
    assert same["holder"] == run_info["holder"]


def test_a_failure_in_one_namespace_stops_it_and_the_same_command_resumes(tenants: Tenants) -> None:
    result = tenants.shell.bulkup(*RUN, env={"FAIL_IN": "tenant-2"})
    assert result.code == 1
    assert "Failed: tenant-2: stopped at the first failure: Key('Item', 4" in result.out
    assert row_of(result.out, "tenant-1")[1] == "finished"
    assert row_of(result.out, "tenant-2")[1] == "failed"
    assert row_of(result.out, "tenant-10") == ["tenant-10", "not", "begun"]
    again = "Continue with: bulkup run bump.py --all-namespaces --batch-size 2 --in-flight 2\n"
    assert again in result.out
    assert tenants.values("tenant-10") == {"tenant-10": {0}}
    assert tenants.shell.bulkup("run", "bump.py", "--all-namespaces").code == 0
    tenants.assert_each_done()


def test_failures_within_the_budget_continue_and_exit_with_three(embedded_tenants: Tenants) -> None:
    tenants = embedded_tenants
    result = tenants.shell.bulkup(*RUN, "--max-failures", "1", env={"FAIL_IN": "tenant-2"})
    assert result.code == 3, result
    assert tenants.values() == {"": {1}, "tenant-1": {1}, "tenant-2": {0, 1}, "tenant-10": {1}}
    assert row_of(result.out, "tenant-2")[:5] == ["tenant-2", "finished", "6", "5", "1"]


def test_the_run_of_one_namespace_can_be_resumed_alone(embedded_tenants: Tenants) -> None:
    tenants = embedded_tenants
    assert tenants.shell.bulkup(*RUN, env={"DIE_IN": "tenant-1"}).code == -9
    (run_info,) = tenants.records("tenant-1")
    assert tenants.shell.bulkup("resume", run_info.key.name).code == 0
    assert tenants.values() == {"": {1}, "tenant-1": {1}, "tenant-2": {0}, "tenant-10": {0}}
    assert tenants.shell.bulkup(*RUN).code == 0
    tenants.assert_each_done()


def test_an_unfinished_run_of_a_namespace_is_adopted(tenants: Tenants) -> None:
    shell = tenants.shell
    alone = shell.bulkup("run", "bump.py", "--namespace", "tenant-1", *SMALL, "--limit", "2")
    assert alone.code == 75
    shutil.rmtree(shell.state_dir)
    assert shell.bulkup(*RUN, env={"DIE_IN": "tenant-2"}).code == -9
    shutil.rmtree(shell.state_dir)
    assert shell.bulkup(*RUN).code == 0
    tenants.assert_each_done()
    assert len(tenants.records("tenant-1")) == 1


def test_new_starts_new_runs_in_every_namespace(embedded_tenants: Tenants) -> None:
    tenants = embedded_tenants
    # A limit stops at an exact entity, a signal perhaps only after the last one.
    assert tenants.shell.bulkup(*RUN, "--limit", "16").code == 75
    first = sum(values_of(tenants, "tenant-2"))
    assert 0 < first < 6
    assert tenants.shell.bulkup(*RUN, "--new", env={"STOP_IN": "tenant-1"}).code == 143
    assert tenants.shell.bulkup(*RUN).code == 0
    assert tenants.values("", "tenant-1", "tenant-10") == {
        "": {2}, "tenant-1": {2}, "tenant-10": {1},
    }  # fmt: skip
    assert sum(values_of(tenants, "tenant-2")) == first + 6
    states = sorted(r["state"] for r in tenants.records("tenant-2"))
    assert states == ["abandoned", "finished"]


def values_of(tenants: Tenants, namespace: str) -> list[int]:
    return [e["n"] for e in tenants.client(namespace).query(kind="Item").fetch()]


def test_limits_hold_for_all_namespaces_together(embedded_tenants: Tenants) -> None:
    tenants = embedded_tenants
    result = tenants.shell.bulkup(*RUN, "--limit", "8")
    assert result.code == 75, result
    assert "Stopped after 8 entities (--limit)." in result.out
    assert {n: sum(values_of(tenants, n)) for n in NAMESPACES} == {
        "": 6, "tenant-1": 2, "tenant-2": 0, "tenant-10": 0,
    }  # fmt: skip
    assert tenants.shell.bulkup(*RUN, "--max-time", "0s").code == 75
    assert tenants.shell.bulkup(*RUN).code == 0
    tenants.assert_each_done()


def test_new_namespaces_are_named_and_not_run(tenants: Tenants) -> None:
    tenants.shell.write(
        "bump.py",
        """
        from bulkup import Updater
        from google.cloud.datastore import Entity

        class Bump(Updater):
            def get_query(self):
                return self.client.query(kind="Item")

            def handle_entity(self, entity):
                other = Entity(self.client.key("Item", 1, namespace="tenant-3"))
                other["n"] = 0
                self.client.put(other)
                entity["n"] += 1
                self.put(entity)
        """,
    )
    result = tenants.shell.bulkup(*RUN, "--json")
    assert result.code == 0, result
    (group,) = result.of_type("group")
    assert group["appeared"] == ["tenant-3"]
    assert [space["namespace"] for space in group["namespaces"]] == list(NAMESPACES)
    tenants.assert_each_done()
    assert tenants.values("tenant-3") == {"tenant-3": {0}}
    tenants.client("tenant-3").delete(tenants.client("tenant-3").key("Item", 1))
    again = tenants.shell.bulkup(*RUN)
    assert "Namespaces that appeared during the run and were not processed: tenant-3" in again.out


def test_the_json_has_the_namespace_and_the_result_of_each(
    embedded_tenants: Tenants,
) -> None:
    result = embedded_tenants.shell.bulkup(*RUN, "--json")
    (begun,) = result.of_type("namespaces")
    assert begun["namespaces"] == list(NAMESPACES)
    for kind in ("start", "summary"):
        assert [s["target"]["namespace"] for s in result.of_type(kind)] == list(NAMESPACES)
    (group,) = result.of_type("group")
    assert (group["state"], group["exit_code"], group["counts"]["puts"]) == ("finished", 0, 24)
    assert group["run_id"] == begun["group_id"]
    for space, one in zip(group["namespaces"], result.of_type("summary"), strict=True):
        assert (space["run_id"], space["counts"]) == (one["run_id"], one["counts"])


def test_a_dry_run_leaves_no_trace(tenants: Tenants) -> None:
    before = tenants.contents()
    result = tenants.shell.bulkup(*RUN, "-n")
    assert result.code == 0, result
    assert "Dry run; nothing was written: 24 entities handled, would write 24" in result.out
    assert row_of(result.out, "tenant-2") == ["tenant-2", "finished", "6", "6", "0"]
    assert tenants.contents() == before
    assert tenants.shell.runs() == []


def test_a_dry_run_does_not_touch_an_unfinished_group(
    embedded_tenants: Tenants,
) -> None:
    tenants = embedded_tenants
    assert tenants.shell.bulkup(*RUN, "--limit", "8").code == 75
    before, disk = tenants.contents(), tenants.shell.runs()
    result = tenants.shell.bulkup(*RUN, "-n")
    assert result.code == 0, result
    assert "would write 24" in result.out
    assert "without --dry-run this command resumes it" in result.err
    assert (tenants.contents(), tenants.shell.runs()) == (before, disk)
    assert tenants.shell.bulkup(*RUN).code == 0
    tenants.assert_each_done()


def test_an_invalid_updater_leaves_no_trace(embedded_tenants: Tenants) -> None:
    tenants = embedded_tenants
    tenants.shell.write(
        "bump.py",
        """
        from bulkup import BulkPut

        class Bump(BulkPut):
            def get_query(self):
                raise KeyError("kind")
        """,
    )
    before = tenants.contents()
    assert tenants.shell.bulkup(*RUN).code == 1
    assert tenants.contents() == before
    assert tenants.shell.runs() == []


def test_namespaces_without_user_data_are_ignored(embedded_tenants: Tenants) -> None:
    tenants = embedded_tenants
    assert tenants.shell.bulkup(*RUN).code == 0
    client = tenants.client("tenant-2")
    client.delete_multi(e.key for e in client.query(kind="Item").fetch())
    assert tenants.records("tenant-2")
    result = tenants.shell.bulkup(*RUN)
    assert result.code == 0
    assert "tenant-2" not in result.out
    assert tenants.values("", "tenant-1", "tenant-10") == {
        "": {2}, "tenant-1": {2}, "tenant-10": {2},
    }  # fmt: skip


def test_a_pattern_without_a_match_is_reported(embedded_tenants: Tenants) -> None:
    result = embedded_tenants.shell.bulkup("run", "bump.py", "--namespaces", "shop-*")
    assert result.code == 10
    assert "no namespace with data matches 'shop-*'" in result.err
    gate = embedded_tenants.shell.bulkup("status", "--namespaces", "shop-*", "--check")
    assert gate.code == 10
    assert embedded_tenants.shell.runs() == []


def test_an_unfinished_run_with_another_query_is_not_resumed(embedded_tenants: Tenants) -> None:
    tenants = embedded_tenants
    assert tenants.shell.bulkup(*RUN, env={"DIE_IN": "tenant-1"}).code == -9
    source = (tenants.shell.folder / "bump.py").read_text()
    tenants.shell.write("bump.py", source.replace('kind="Item")', 'kind="Item", order=["n"])'))
    result = tenants.shell.bulkup(*RUN)
    assert result.code == 2, result
    assert "started with another query" in result.err


@pytest.mark.parametrize(
    "options",
    [
        ("--all-namespaces", "--namespace", "a"),
        ("--namespaces", "a*", "--namespace", "a"),
        ("--all-namespaces", "--namespaces", "a*"),
        ("--namespaces", ""),
        ("--all-namespaces", "--no-record"),
    ],
    ids=" ".join,
)
def test_contradicting_options_are_wrong_usage(
    embedded_tenants: Tenants, options: tuple[str, ...]
) -> None:
    result = embedded_tenants.shell.bulkup("run", "bump.py", *options)
    assert result.code == 2
    assert result.out == ""
    assert "namespaces" in result.err


NO_CHANGE = """
    from bulkup import BulkPut

    class B(BulkPut):
        def get_query(self):
            return self.client.query(kind="Item")
"""


@pytest.mark.parametrize(
    "command", [("run", "bump.py"), ("migrate", "steps"), ("status", "steps")], ids=" ".join
)
def test_a_server_that_cannot_list_namespaces_is_reported_in_one_sentence(
    tmp_path: Path, fs: Server, command: tuple[str, ...]
) -> None:
    shell = Shell(tmp_path, fs)
    shell.write("bump.py", NO_CHANGE)
    (tmp_path / "steps").mkdir()
    seed(fs, 1, namespace="a")
    shell.bulkup(*command, "--all-namespaces").fails(
        1, "cannot list its namespaces", "--namespace NAME"
    )


def test_successors_run_in_each_namespace(embedded_tenants: Tenants) -> None:
    tenants = embedded_tenants
    source = (tenants.shell.folder / "bump.py").read_text()
    tenants.shell.write("second.py", source)
    tenants.shell.write(
        "bump.py",
        """
        from bulkup import Updater

        class First(Updater):
            then = "second.py"

            def get_query(self):
                return self.client.query(kind="Item")

            def handle_entity(self, entity):
                entity["n"] += 1
                self.put(entity)
        """,
    )
    for namespace in ("tenant-1", "tenant-10"):
        assert tenants.shell.bulkup(*RUN, env={"DIE_IN": namespace}).code == -9
        shutil.rmtree(tenants.shell.state_dir)
    result = tenants.shell.bulkup(*RUN)
    assert result.code == 0, result
    tenants.assert_each_done(2)
    for namespace in NAMESPACES[1:]:  # also where the successor was resumed
        assert row_of(result.out, namespace)[:5] == [namespace, "finished", "12", "12", "0"]


def test_a_signal_ends_it_after_the_commits_in_flight(embedded_tenants: Tenants) -> None:
    tenants = embedded_tenants
    result = tenants.shell.bulkup(*RUN, env={"STOP_IN": "tenant-1"})
    assert result.code == 143, result
    assert "Interrupted by SIGTERM." in result.out
    assert row_of(result.out, "tenant-1")[1] == "interrupted"
    assert row_of(result.out, "tenant-2")[1:] == ["not", "begun"]
    assert tenants.values("tenant-2", "tenant-10") == {"tenant-2": {0}, "tenant-10": {0}}
    assert tenants.shell.bulkup(*RUN).code == 0
    tenants.assert_each_done()


@pytest.mark.parametrize("options", [(), ("-n",)], ids=["run", "dry run"])
def test_a_query_with_a_fixed_namespace_is_refused(
    embedded_tenants: Tenants, options: tuple[str, ...]
) -> None:
    tenants = embedded_tenants
    source = (tenants.shell.folder / "bump.py").read_text()
    there = 'kind="Item", namespace="tenant-1")'
    tenants.shell.write("bump.py", source.replace('kind="Item")', there))
    before = tenants.contents()
    result = tenants.shell.bulkup(*RUN, *options)
    assert result.code == 2, result
    assert "sets the namespace 'tenant-1' itself" in result.err
    assert tenants.contents() == before


def test_a_migration_with_a_fixed_namespace_is_refused(
    embedded_tenants: Tenants,
) -> None:
    shell = embedded_tenants.shell
    source = (shell.folder / "bump.py").read_text()
    there = 'kind="Item", namespace="tenant-1")'
    shell.write("updaters/0001_x.py", source.replace('kind="Item")', there))
    before = embedded_tenants.values()
    assert shell.bulkup("migrate", "--all-namespaces").code == 2
    assert embedded_tenants.values() == before
    refused = shell.bulkup("migrate", "--namespace", "tenant-2")
    assert refused.code == 2
    assert "the query is for namespace 'tenant-1', the run for 'tenant-2'" in refused.err
    assert embedded_tenants.values() == before
    assert shell.bulkup("migrate", "--namespace", "tenant-1").code == 0


def test_a_similar_unfinished_group_is_named(embedded_tenants: Tenants) -> None:
    tenants = embedded_tenants
    assert tenants.shell.bulkup(*RUN, env={"DIE_IN": "tenant-2"}).code == -9
    result = tenants.shell.bulkup("run", "bump.py", "--namespaces", "tenant-10")
    assert result.code == 0
    assert "of Bump is unfinished, with other parameters or pattern ('*')" in result.err
    dry = tenants.shell.bulkup(*RUN, "-n")
    assert "of the same work is unfinished; without --dry-run this command resumes it" in dry.err


def test_only_when_no_namespace_has_entities_there_is_a_warning(
    embedded_tenants: Tenants,
) -> None:
    tenants = embedded_tenants
    seed(tenants.server, 1, kind="Other", namespace="tenant-3")
    result = tenants.shell.bulkup(*RUN)
    assert row_of(result.out, "tenant-3") == ["tenant-3", "finished", "0", "0", "0"]
    assert "Warning" not in result.out + result.err
    source = (tenants.shell.folder / "bump.py").read_text()
    tenants.shell.write("bump.py", source.replace("Item", "Missing"))
    result = tenants.shell.bulkup(*RUN)
    assert result.err.count("found no entities") == 1
    assert "the query found no entities in any namespace" in result.out


def test_resuming_one_namespace_mentions_the_others(embedded_tenants: Tenants) -> None:
    shell = embedded_tenants.shell
    assert shell.bulkup(*RUN, "--limit", "8").code == 75
    assert "this resumes one namespace only" in shell.bulkup("resume").err


def test_a_namespace_held_by_another_process_stops_it_with_a_report(
    embedded_tenants: Tenants,
) -> None:
    tenants = embedded_tenants
    assert tenants.shell.bulkup(*RUN, env={"DIE_IN": "tenant-1"}).code == -9
    (run_info,) = tenants.records("tenant-1")
    run_info["holder"] = run_info["holder"].replace('"machine": "', '"machine": "elsewhere-')
    tenants.client("tenant-1").put(run_info)
    result = tenants.shell.bulkup("run", "bump.py", "--namespaces", "[!0-9]*")
    assert result.code == 11, result
    assert "is working on run" in result.err
    seed(tenants.server, 1, namespace="a-first").close()
    result = tenants.shell.bulkup("run", "bump.py", "--namespaces", "*-*")
    assert result.code == 11, result
    assert row_of(result.out, "a-first")[1] == "finished"
    assert row_of(result.out, "tenant-1")[1:3] == ["not", "begun"]
    assert "is working on run" in result.out


def test_the_resume_command_keeps_the_failure_budget(embedded_tenants: Tenants) -> None:
    shell = embedded_tenants.shell
    result = shell.bulkup(*RUN, "--max-failures", "1", "--limit", "11", env={"FAIL_IN": "tenant-1"})
    assert result.code == 75, result
    (said,) = re.findall(r"^Continue with: bulkup (.*)$", result.out, re.MULTILINE)
    asked = "--batch-size 2 --in-flight 2 --max-failures 1"
    assert said == f"run bump.py --all-namespaces {asked}"
    assert shell.bulkup(*said.split()).code == 3


def test_one_mail_is_sent_for_all_namespaces(embedded_tenants: Tenants) -> None:
    nowhere = ("--email-to", "a@x.example", "--email-from", "b@x.example", "--smtp-plain")
    result = embedded_tenants.shell.bulkup(*RUN, *nowhere, "--smtp", "smtp://127.0.0.1:1")
    assert result.code == 0, result
    assert result.err.count("could not be mailed") == 1


@pytest.mark.chaos
def test_the_legacy_emulator_lists_its_namespaces_too(legacy: Server, tmp_path: Path) -> None:
    tenants = make_tenants(tmp_path, legacy)
    assert tenants.shell.bulkup(*RUN, env={"DIE_IN": "tenant-2"}).code == -9
    assert tenants.shell.bulkup(*RUN).code == 0
    tenants.assert_each_done()


DIE_AFTER_THE_END = """
    import os, signal
    from bulkup.state.groups import Groups
    end = Groups.end
    def ending(groups, group):
        end(groups, group)
        os.kill(os.getpid(), signal.SIGKILL)
    Groups.end = ending
    from bulkup.cli import call
    raise SystemExit(call(["run", "bump.py", "--all-namespaces", "--max-failures", "1"]))
"""


def test_a_group_killed_after_its_end_is_reported_and_not_run_again(
    embedded_tenants: Tenants,
) -> None:
    shell = embedded_tenants.shell
    shell.environment["FAIL_IN"] = "tenant-2"
    assert shell.script(DIE_AFTER_THE_END).code == -9
    every = ("run", "bump.py", "--all-namespaces", "--max-failures", "1")
    result = shell.bulkup(*every, "--json")
    assert result.code == 3, result
    (report,) = result.of_type("group")
    assert (report["state"], report["counts"]["handled"]) == ("finished", 24)
    assert report["counts"]["failed"] == 1
    assert "killed before it could report" in result.of_type("warning")[-1]["message"]
    embedded_tenants.assert_each_done(namespaces=("", "tenant-1", "tenant-10"))
    shell.environment.pop("FAIL_IN")
    assert shell.bulkup(*every).code == 0  # a new group, as ever
    embedded_tenants.assert_each_done(2, namespaces=("", "tenant-1", "tenant-10"))


def test_what_is_said_of_the_code_is_said_once_for_all_namespaces(
    embedded_tenants: Tenants,
) -> None:
    shell = embedded_tenants.shell
    shell.write(
        "halve.py",
        """
        import bulkup

        @bulkup.updater(kind="Item")
        def halve(item):
            item["n"] /= 2
            return item
        """,
    )
    result = shell.bulkup("run", "halve.py", "--all-namespaces", "--json")
    assert result.code == 0, result
    (warning,) = result.of_type("warning")
    assert warning["kind"] == "number_type"
    (counted,) = result.of_type("summary")[-1]["warnings"]
    assert "(halve.py:6)" in counted
