"""`--kind`, `--ancestor` and `--where` narrow the query of any updater."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from google.cloud import datastore

import bulkup
from bulkup.core.errors import UsageError
from bulkup.core.selection import Selection
from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Shell, entity, put, seed, values
from tests.conftest import Server

pytestmark = [pytest.mark.sampled(9), pytest.mark.client_side]

EVERYWHERE = """
from bulkup import Updater

class Everywhere(Updater):
    def get_query(self):
        return self.client.query()

    def handle_entity(self, entity):
        entity["n"] += 1
        self.put(entity)
"""
NO_QUERY = """
from bulkup.authoring.base_updaters import SelectionUpdater

class Touch(SelectionUpdater):
    def handle_entity(self, entity):
        entity["n"] += 1
        self.put(entity)
"""


def test_kind_narrows_a_query_of_all_kinds(shell: Shell, server: Server) -> None:
    client = seed(server, 3)
    seed(server, 2, "Other")
    shell.write("all.py", EVERYWHERE)
    result = shell.bulkup("run", "all.py", "--kind", "Item", "--json")
    keeps_the_contract(result.lines)
    assert result.summary["counts"]["written"] == 3
    assert result.summary["selection"] == {"kind": "Item"}
    assert set(values(client, "Other").values()) == {0}
    shown = shell.bulkup("show", "--json").summary
    assert shown["selection"] == {"kind": "Item"}


def test_an_updater_without_a_query_takes_the_selection(shell: Shell, server: Server) -> None:
    client = seed(server, 3)
    shell.write("touch.py", NO_QUERY)
    shell.bulkup("run", "touch.py").fails(2, "has no query of its own", "--kind")
    for _ in range(2):
        result = shell.bulkup("run", "touch.py", "--kind", "Item", "--processes", "2", "--json")
        assert result.summary["counts"]["written"] == 3
    assert set(values(client).values()) == {2}


def test_another_kind_than_the_query_is_refused(shell: Shell, server: Server) -> None:
    seed(server, 1)
    shell.write("bump.py", BUMP)
    shell.bulkup("run", "bump.py", "--kind", "Other").fails(2, "is for kind 'Item'", "'Other'")
    shell.bulkup("run", "bump.py", "--kind", "").fails(2, "--kind is empty")
    assert shell.bulkup("run", "bump.py", "--kind", "Item", "--json").summary["success"]


def test_a_condition_is_joined_with_the_updaters_own(shell: Shell, server: Server) -> None:
    client = server.client()
    put(client, (entity(client, "Item", i, n=i, even=i % 2 == 0) for i in range(1, 9)))
    shell.write(
        "even.py",
        """
        import bulkup

        @bulkup.updater(kind="Item", filters=[("even", "=", True)])
        def mark(entity):
            entity["marked"] = True
            return entity
        """,
    )
    words = ["even.py", "--where", "n > 3", "--where", "n<=6 "]
    result = shell.bulkup("run", *words)
    assert result.code == 0, result
    query = "SELECT * FROM Item WHERE even = TRUE AND n > 3 AND n <= 6"
    assert f"over {query}" in result.err
    assert re.search(r"Selection +where n > 3 AND n <= 6", result.out)
    marked = [one.key.id for one in client.query(kind="Item").fetch() if one.get("marked")]
    assert sorted(marked) == [4, 6]


@pytest.fixture
def orders(shell: Shell, server: Server) -> datastore.Client:
    """Items 1 to 12; the even ones are open, the others closed. And an updater that counts up."""
    client = server.client()
    states = {0: "open", 1: "closed"}
    put(client, (entity(client, "Item", i, n=0, state=states[i % 2]) for i in range(1, 13)))
    shell.write("bump.py", BUMP)
    return client


OPEN = ("--where", "state = 'open'")
DONE = {i: 1 - i % 2 for i in range(1, 13)}
"""The even ones once, the others not at all."""


def test_the_selection_is_part_of_the_run(shell: Shell, orders: datastore.Client) -> None:
    small = ("--batch-size", "1", "--in-flight", "1")
    assert shell.bulkup("run", "bump.py", *OPEN, "--limit", "2", *small).code == 75
    other = shell.bulkup("run", "bump.py", "--where", "state = 'new'", "--json")
    assert not other.of_type("start")[0]["resumed"]
    resumed = shell.bulkup("resume", shell.runs()[0], "--json")
    assert resumed.of_type("start")[0]["selection"] == {"where": "state = 'open'"}
    assert resumed.summary["counts"]["written"] == 6
    assert values(orders) == DONE
    again = shell.bulkup("run", "bump.py", "--where", 'state="open"', "--once", "--json")
    assert again.of_type("already_done")
    assert shell.bulkup("run", "bump.py", "--once", "--json").summary["counts"]["written"] == 12
    assert values(orders) == {i: n + 1 for i, n in DONE.items()}


def test_with_its_state_lost_a_run_by_equality_resumes(
    shell: Shell, orders: datastore.Client
) -> None:
    small = ("--batch-size", "1", "--in-flight", "1")
    for where, code in (("state = 'open'", 0), ("state > 'n'", 1)):
        assert shell.bulkup("run", "bump.py", "--where", where, "--limit", "2", *small).code == 75
        shell.state_dir.rename(shell.folder / f"lost-{code}")
        result = shell.bulkup("run", "bump.py", "--where", where)
        assert result.code == code, result
        if code:
            assert "state" in result.err
        else:
            assert values(orders) == DONE


def test_a_plan_is_of_its_selection(shell: Shell, orders: datastore.Client) -> None:
    plan = shell.bulkup("plan", "bump.py", *OPEN, "--out", "plan.jsonl", "--json")
    keeps_the_contract(plan.lines)
    (line,) = plan.of_type("plan")
    assert line["predicted"]["written"]["count"] == 6
    assert line["selection"] == {"where": "state = 'open'"}
    apply = ("run", "bump.py", "--plan", "plan.jsonl")
    whole = shell.bulkup(*apply)
    says = "is a plan of where state = 'open', not of the whole query"
    assert says in whole.fails(whole.code, "bulkup plan").err
    assert shell.bulkup(*apply, *OPEN).code == 0
    assert values(orders) == DONE


def test_further_passes_and_retries_keep_the_selection(
    shell: Shell, orders: datastore.Client
) -> None:
    shell.write(
        "close.py",
        """
        import os
        import bulkup

        @bulkup.updater(kind="Item", idempotent=True, max_failures=-1)
        def mark(entity):
            if entity.key.id == 4 and "FIXED" not in os.environ:
                raise ValueError("not today")
            entity["n"] = 1
            return entity
        """,
    )
    result = shell.bulkup("run", "close.py", *OPEN, "--until-clean", "--json")
    assert result.code in (0, 3), result  # of the last pass, which leaves out what has not changed
    starts = result.of_type("start")
    assert len(starts) > 1
    assert {json.dumps(one["selection"]) for one in starts} == {'{"where": "state = \'open\'"}'}
    shell.bulkup("retry", shell.runs()[0], env={"FIXED": "1"})
    assert values(orders) == DONE
    verified = shell.bulkup("verify", "close.py", *OPEN, env={"FIXED": "1"})
    assert (verified.code, "over SELECT * FROM Item WHERE" in verified.err) == (0, True), verified
    assert shell.bulkup("verify", "close.py", env={"FIXED": "1"}).code == 4


def test_a_successor_waits_for_the_whole(shell: Shell, orders: datastore.Client) -> None:
    shell.write("bump.py", f"{BUMP}    then = 'after.py'\n")
    shell.write("after.py", BUMP.replace("Bump", "After"))
    result = shell.bulkup("run", "bump.py", *OPEN)
    assert result.code == 0
    assert "the successor of Bump does not begin after a run on a part of the query" in result.err
    assert values(orders) == DONE


@pytest.mark.parametrize("server", ["EM", "LF"], indirect=True)  # FS does not list namespaces
def test_in_each_namespace_the_selection_is_the_same(shell: Shell, server: Server) -> None:
    shell.write("bump.py", BUMP)
    for namespace in ("a", "b"):
        client = server.client(namespace=namespace)
        key = client.key("Item", 1)
        put(client, (entity(client, "Item", i, n=0, of=key) for i in range(1, 4)))
        put(client, [entity(client, "Item", 9, n=0, of=client.key("Item", 2))])
    words = ("bump.py", "--namespaces", "*", "--where", "of = KEY(Item, 1)", "--batch-size", "1")
    stopped = shell.bulkup("run", *words, "--limit", "4", "--json")
    assert stopped.code == 75
    (group,) = stopped.of_type("group")
    assert group["selection"] == {"where": "of = KEY(Item, 1)"}
    command = shlex.split(group["next_steps"][0])[1:]
    assert command[command.index("--where") + 1] == "of = KEY(Item, 1)"
    other = shell.bulkup("run", *words[:3], "--dry-run", "--json").of_type("group")[0]
    assert other["counts"]["handled"] == 8
    resumed = shell.bulkup("resume", group["run_id"], "--json")
    assert resumed.of_type("group")[0]["selection"] == group["selection"]
    for namespace in ("a", "b"):
        assert values(server.client(namespace=namespace)) == {1: 1, 2: 1, 3: 1, 9: 0}


def test_what_cannot_be_combined_is_one_sentence(shell: Shell, orders: datastore.Client) -> None:
    shell.write("keys.txt", "Key('Item', 1)\n")
    for option, value in (("--where", "n = 0"), ("--ancestor", "KEY(Item, 1)")):
        result = shell.bulkup("run", "bump.py", "--keys-from", "keys.txt", option, value)
        assert result.code == 2
        assert "cannot be used together" in result.err
    for where, says in (
        ("state = open", "at character 9 ('open'): expected a value"),
        ("of = KEY(NAMESPACE('x'), Item, 1)", "of namespace 'x', but the run is for (default)"),
    ):
        shell.bulkup("run", "bump.py", "--where", where).fails(2, says)
    assert shell.runs() == []
    several = {"BULKUP_RUN_WHERE": "state = 'open'\nn = 0\n", "BULKUP_RUN_KIND": "Item"}
    shown = shell.bulkup("run", "bump.py", "--dry-run", "--json", env=several).summary
    assert shown["selection"] == {"kind": "Item", "where": "state = 'open' AND n = 0"}


def test_a_program_selects_in_the_same_way(
    shell: Shell, orders: datastore.Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    report = bulkup.run(
        str(shell.folder / "bump.py"),
        project=server.project,
        kind="Item",
        where="state = 'open' AND n = 0",
        state_dir=shell.state_dir,
    )
    assert report.counts.written == 6
    assert report.selection == Selection("Item", where="state = 'open' AND n = 0")
    assert values(orders) == DONE
    with pytest.raises(UsageError, match="expected a value"):
        bulkup.run(str(shell.folder / "bump.py"), project=server.project, where="n = ")
