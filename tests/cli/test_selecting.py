"""`--kind`, `--ancestor` and `--where` narrow the query of any updater."""

from __future__ import annotations

import re

import pytest

from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Shell, entity, put, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.client_side

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
from bulkup.authoring.updater import SelectionUpdater

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
