"""`bulkup run --plan`: refuses what was not planned, and stops when something else happens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from textwrap import dedent

import pytest
from google.cloud import datastore

from bulkup.core.errors import Exit
from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import Result, Shell, contents, markers, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)

COUNT = 40

UPDATER = """
    import os
    import bulkup
    from google.cloud.datastore.query import PropertyFilter

    class Tidy(bulkup.Updater):
        '''Count up, delete the old ones, leave the kept ones alone.'''
        step: int = bulkup.param(1)

        def get_query(self):
            query = self.client.query(kind="Item")
            if "SINCE" in os.environ:
                key = self.client.key("Item", int(os.environ["SINCE"]))
                query.add_filter(filter=PropertyFilter("__key__", ">", key))
            return query

        def handle_entity(self, entity):
            if entity.get("old"):
                self.delete(entity)
            elif not entity.get("kept"):
                entity["n"] += self.step
                self.put(entity)
"""


def project(folder: Path, server: Server) -> Shell:
    shell = Shell(folder, server)
    shell.write("tidy.py", UPDATER)
    return shell


def mark(client: datastore.Client, name: str, *ids: int) -> None:
    entities = client.get_multi([client.key("Item", i) for i in ids])
    for entity in entities:
        entity[name] = True
    client.put_multi(entities)


def planned(shell: Shell, *options: str, out: str = "plan.jsonl") -> Result:
    result = shell.bulkup("plan", "tidy.py", "--out", out, *(options or ("--full",)))
    assert result.code == 0, result
    return result


APPLY = ("run", "tidy.py", "--plan", "plan.jsonl")
SMALL = ("--batch-size", "4")


@pytest.mark.parametrize("how", [("--full",), ("--sample", "15")], ids=["full", "sample"])
def test_a_run_that_keeps_to_its_plan_says_so(
    tmp_path: Path, server: Server, how: tuple[str, ...]
) -> None:
    client = seed(server, COUNT)
    shell = project(tmp_path, server)
    planned(shell, *how)
    result = shell.bulkup(*APPLY, "--json")
    assert result.code == 0, result
    keeps_the_contract(result.lines)
    head = json.loads((shell.folder / "plan.jsonl").read_text().splitlines()[0])
    assert result.summary["plan"] == {
        "plan_id": head["plan_id"], "max_drift": 0.01, "drift": "", "approved_by": "",
        "approved": None,
    }  # fmt: skip
    assert f"{head['plan_id']}: as predicted" in shell.bulkup("show").out
    assert set(values(client).values()) == {1}


@pytest.mark.client_side
def test_what_is_not_as_planned_is_refused_and_nothing_is_written(
    tmp_path: Path, server: Server
) -> None:
    seed(server, COUNT)
    shell = project(tmp_path, server)
    planned(shell)
    before = contents(server)

    def refused(*says: str, env: dict[str, str] | None = None, args: tuple[str, ...] = ()) -> None:
        result = shell.bulkup(*APPLY, *args, env=env)
        result.fails(Exit.USAGE, *says)
        assert contents(server) == before
        assert shell.runs() == []

    again = "bulkup plan "
    refused("is a plan with step=1, not with step=2", "-p", again, args=("-p", "step=2"))
    refused("is a plan for project", "namespace eu", again, args=("--namespace", "eu"))
    refused("the query of Tidy is not the one in", again, env={"SINCE": "3"})
    shell.write("tidy.py", UPDATER.replace("+= self.step", "+= 2 * self.step"))
    refused("the code of Tidy has changed since", again)
    shell.write("tidy.py", UPDATER.replace("class Tidy", "class Other"))
    refused("is a plan of Tidy, not of Other")
    shell.write("tidy.py", UPDATER)
    shell.write("other.py", UPDATER)
    other = shell.bulkup("run", "other.py", "--plan", "plan.jsonl")
    other.fails(Exit.USAGE, "is a plan of ", "tidy.py", "other.py", again)
    for option, says in ((("-n",), "carries out no plan"), (("--all-namespaces",), "several")):
        assert says in shell.bulkup(*APPLY, *option).err
    assert contents(server) == before


def test_a_plan_survives_comments_and_layout_in_the_code(tmp_path: Path, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    planned(shell)
    shell.write("tidy.py", UPDATER.replace("import os\n", "import os  # for the environment\n\n"))
    assert shell.bulkup(*APPLY).code == 0
    assert set(values(client).values()) == {1}


def test_code_that_the_updater_imports_from_its_project_is_planned_too(
    tmp_path: Path, embedded: Server
) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    shell.write("tidy.py", dedent(UPDATER) + "import steps\n")
    shell.write("steps.py", "STEP = 1\n")
    planned(shell)
    shell.write("steps.py", "STEP = 2\n")
    shell.bulkup(*APPLY).fails(Exit.USAGE, "the code of Tidy has changed since")
    assert set(values(client).values()) == {0}
    shell.write("steps.py", "STEP = 1  # each\n")
    assert shell.bulkup(*APPLY).code == 0


def test_the_target_of_the_plan_is_named_where_none_is_given(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.write("tidy.py", UPDATER)
    shell.write("rows.jsonl", '{"__key__": ["Item", 1], "n": 1}')
    assert shell.bulkup("local", "load", "a b.db", "rows.jsonl").code == 0
    words = ("plan", "tidy.py", "--local", "a b.db", "--out", "plan.jsonl")
    assert shell.bulkup(*words).code == 0
    shell.bulkup(*APPLY).fails(1, f"add --local '{tmp_path}/a b.db'")
    assert shell.bulkup(*APPLY, "--local", "a b.db").code == 0


def test_a_plan_that_was_edited_or_is_none_is_refused(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    planned(shell)
    path = shell.folder / "plan.jsonl"
    good, before = path.read_text(), contents(embedded)
    lines = good.splitlines(keepends=True)
    edited = {
        "a number": good.replace(f'"count": {COUNT}', f'"count": {COUNT + 1}', 1),
        "a change": good.replace('"action": "put"', '"action": "delete"', 1),
        "a line less": "".join(lines[:-1]),
        "a line more": good + lines[-1],
        "not a plan": "{}\n",
        "empty": "",
    }
    for what, text in edited.items():
        assert text != good, what
        path.write_text(text)
        shell.bulkup(*APPLY).fails(Exit.USAGE, "bulkup plan" if len(text) < 9 else "make the plan")
    path.unlink()
    shell.bulkup(*APPLY).fails(Exit.USAGE, "cannot read the plan", "bulkup plan UPDATER --out")
    assert contents(embedded) == before


@pytest.mark.one_in(3)
@pytest.mark.parametrize("how", [(), ("--processes", "2"), ("--shards", "3")], ids=str)
def test_a_drift_stops_the_run_before_its_writes_and_resume_may_allow_it(
    tmp_path: Path, server: Server, how: tuple[str, ...]
) -> None:
    client = seed(server, COUNT)
    shell = project(tmp_path, server)
    planned(shell)
    mark(client, "old", *range(20, 31))  # somebody else, between the plan and the run
    stopped = shell.bulkup(*APPLY, *SMALL, *how, "--json")
    assert stopped.code == Exit.LIMIT, stopped
    keeps_the_contract(stopped.lines)
    summary = stopped.summary
    assert summary["state"] == "stopped"
    assert "the run drifts from its plan: " in summary["reason"]
    assert "handled were deleted" in summary["reason"] or "was deleted" in summary["reason"]
    assert "the plan predicted 0 of 40 (0 %), give or take 0 (--max-drift 1%)" in summary["reason"]
    assert summary["plan"]["drift"] in summary["reason"]
    assert len(values(client)) == COUNT  # none was deleted
    counts = summary["counts"]
    assert counts["handled"] == counts["written"] < COUNT
    again = shell.bulkup("resume")
    assert again.code == Exit.LIMIT
    assert again.out.startswith("Stopped: the run drifts from its plan; nothing is lost."), again
    assert "resume with a larger --max-drift" in again.out
    assert len(values(client)) == COUNT
    shutil.rmtree(shell.state_dir)
    lost = shell.bulkup("run", "tidy.py", *SMALL)  # also elsewhere it is held to its plan
    assert lost.code == Exit.LIMIT, lost
    done = shell.bulkup("resume", "--max-drift", "50%", "--json")
    assert done.code == 0, done
    assert done.summary["plan"]["max_drift"] == 0.5
    assert set(values(client)) == {*range(1, 20), *range(31, COUNT + 1)}
    assert set(values(client).values()) == {1}


def test_a_drift_within_the_bound_is_none(tmp_path: Path, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    planned(shell)
    mark(client, "old", 1, 2)
    result = shell.bulkup(*APPLY, *SMALL, "--max-drift", "5%", "--json")
    assert (result.code, result.summary["plan"]["drift"]) == (0, ""), result
    assert len(values(client)) == COUNT - 2


def test_the_first_entities_may_all_be_unlike_the_others(tmp_path: Path, embedded: Server) -> None:
    """As planned: the first ten are deleted, the others are not."""
    client = seed(embedded, COUNT)
    mark(client, "old", *range(1, 11))
    shell = project(tmp_path, embedded)
    planned(shell)
    result = shell.bulkup(*APPLY, "--batch-size", "1", "--max-drift", "0%")
    assert result.code == 0, result
    assert set(values(client)) == {*range(11, COUNT + 1)}


def test_of_a_sample_the_interval_counts(tmp_path: Path, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    mark(client, "kept", *range(2, COUNT + 1, 2))
    shell = project(tmp_path, embedded)
    planned(shell, "--sample", "20")
    head = json.loads((shell.folder / "plan.jsonl").read_text().splitlines()[0])
    low, high = (head["predicted"]["written"][name] for name in ("low", "high"))
    assert low < 20 < high
    result = shell.bulkup(*APPLY, *SMALL, "--max-drift", "0%", "--json")
    assert (result.code, result.summary["plan"]["drift"]) == (0, ""), result
    assert sum(values(client).values()) == 20


def test_what_did_not_happen_is_told_at_the_end(tmp_path: Path, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    planned(shell)
    client.delete_multi([client.key("Item", i) for i in range(1, 6)])
    result = shell.bulkup(*APPLY, "--json")
    assert result.code == 0, result
    (warning,) = [w for w in result.of_type("warning") if w["kind"] == "drift"]
    assert "35 entities were handled, and the plan predicted 40" in warning["message"]
    assert result.summary["plan"]["drift"] in warning["message"]
    assert "drifts: 35 entities" in shell.bulkup("show").out


def test_more_entities_than_planned_stop_the_run(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    planned(shell)
    client = seed(embedded, 2 * COUNT)
    result = shell.bulkup(*APPLY, *SMALL)
    assert result.code == Exit.LIMIT
    assert "44 entities were handled, and the plan predicted 40" in result.out
    assert sum(values(client).values()) == COUNT


def test_a_run_that_is_held_to_a_plan_is_not_resumed_with_other_code(
    tmp_path: Path, server: Server
) -> None:
    client = seed(server, COUNT)
    shell = project(tmp_path, server)
    planned(shell)
    assert shell.bulkup(*APPLY, *SMALL, "--limit", "8").code == Exit.LIMIT
    shell.write("tidy.py", UPDATER.replace("+= self.step", "+= 2 * self.step"))
    before = contents(server)
    for command in (("resume",), APPLY, ("run", "tidy.py")):
        shell.bulkup(*command).fails(Exit.USAGE, "the code of Tidy ", "plan")
        assert contents(server) == before
    shell.write("tidy.py", UPDATER)
    assert shell.bulkup("resume").code == 0
    assert set(values(client).values()) == {1}
    assert markers(server) == []


def test_an_unfinished_run_keeps_the_plan_that_it_began_with(
    tmp_path: Path, embedded: Server
) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    planned(shell)
    planned(shell, "--sample", "10", out="other.jsonl")
    run = ("run", "tidy.py", *SMALL, "--limit", "8")
    assert shell.bulkup(*run).code == Exit.LIMIT
    shell.bulkup(*APPLY).fails(Exit.USAGE, "was started without a plan", "--new")
    assert shell.bulkup("abandon", shell.runs()[-1], "--yes").code == 0
    assert shell.bulkup(*run, "--plan", "other.jsonl", "--new").code == Exit.LIMIT
    shell.bulkup(*APPLY).fails(Exit.USAGE, "was started with another plan", "--new")
    assert shell.bulkup("run", "tidy.py", "--plan", "other.jsonl").code == 0
    assert sum(values(client).values()) == COUNT + 8


def test_a_plan_and_a_gate_go_together(tmp_path: Path, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    planned(shell)
    result = shell.bulkup(*APPLY, "--gate", "clean", "--json")
    assert result.code == 0, result
    assert result.summary["gate"]["passed"] is True
    assert result.summary["plan"]["drift"] == ""
    assert set(values(client).values()) == {1}


def test_further_passes_carry_out_the_same_plan(tmp_path: Path, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    shell.write(
        "tidy.py",
        UPDATER.replace("step: int", "idempotent = True\n        step: int").replace("+=", "="),
    )
    planned(shell)
    result = shell.bulkup(*APPLY, "--until-clean", "--json")
    assert result.code == 0, result
    passes = result.of_type("summary")
    assert len(passes) == 2
    assert {one["plan"]["drift"] for one in passes} == {""}
    assert [one for one in result.of_type("warning") if one["kind"] == "drift"] == []
    assert set(values(client).values()) == {1}


def test_a_plan_is_not_of_a_list_of_keys(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    planned(shell)
    shell.write("keys.txt", "Key('Item', 2)\n")
    refused = shell.bulkup(*APPLY, "--keys-from", "keys.txt")
    assert refused.code == Exit.USAGE
    assert "a plan is of what the query finds; choose one" in refused.err


def test_a_share_that_is_none_is_refused(tmp_path: Path, embedded: Server) -> None:
    shell = project(tmp_path, embedded)
    result = shell.bulkup("run", "tidy.py", "--max-drift", "0.05")
    assert result.code == Exit.USAGE
    assert "use 0% to 100%" in result.err
