"""Which entities a run handles: kinds, filters, orders, ancestors, namespaces, and all of them."""

from __future__ import annotations

import pytest
from google.cloud.datastore.query import PropertyFilter

from tests.cli.shell import BUMP, Shell, contents, entity, put, seed, user_data, values
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)


def test_bulk_delete_and_bulk_put(shell: Shell, server: Server) -> None:
    seed(server, 25)
    client = seed(server, 10, "Other")
    shell.write(
        "bulk.py",
        """
        from bulkup import BulkDelete, BulkPut

        class Clear(BulkDelete):
            def get_query(self):
                query = self.client.query(kind="Item")
                query.keys_only()
                return query

        class Again(BulkPut):
            def get_query(self):
                return self.client.query(kind="Other")
        """,
    )
    again = shell.bulkup("run", "bulk.py:Again", "--json").summary
    assert (again["counts"]["puts"], again["counts"]["unchanged"]) == (10, 0)
    clear = shell.bulkup("run", "bulk.py:Clear", "--json", "--batch-size", "10").summary
    assert (clear["counts"]["deletes"], clear["counts"]["puts"]) == (25, 0)
    assert values(client) == {}
    assert values(client, "Other") == dict.fromkeys(range(1, 11), 0)
    assert len(user_data(server)) == 10


def test_an_unchanged_put_costs_no_write(shell: Shell, server: Server) -> None:
    seed(server, 5)
    before = contents(server)
    shell.write("same.py", BUMP)
    counts = shell.bulkup("run", "same.py", "-p", "step=0", "--json").summary["counts"]
    assert (counts["handled"], counts["unchanged"], counts["puts"]) == (5, 5, 0)
    assert user_data(server) == before


def test_an_entity_of_a_keys_only_query_is_not_put_back_empty(shell: Shell, server: Server) -> None:
    client = seed(server, 3)
    shell.write(
        "keys.py",
        """
        import bulkup

        @bulkup.updater(kind="Item", keys_only=True)
        def touch(entity):
            assert dict(entity) == {}
            entity["touched"] = True
            return entity
        """,
    )
    result = shell.bulkup("run", "keys.py")
    assert result.code == 1
    assert "drop keys_only" in result.out
    assert values(client) == {1: 0, 2: 0, 3: 0}


def test_filters_orders_and_ancestors_select_entities(shell: Shell, server: Server) -> None:
    client = server.client()
    put(client, (entity(client, "Item", i, n=i % 10, colour="red") for i in range(1, 41)))
    put(client, (entity(client, "Item", i, n=5, colour="blue") for i in range(41, 46)))
    put(client, (entity(client, "Box", 1, "Part", i, n=0) for i in range(1, 8)))
    put(client, (entity(client, "Box", 2, "Part", i, n=0) for i in range(1, 8)))
    shell.write(
        "choose.py",
        """
        import bulkup
        from bulkup import BulkPut

        @bulkup.updater(kind="Item", filters=[("colour", "=", "blue")])
        def blue(entity):
            entity["seen"] = True
            return entity

        @bulkup.updater(kind="Item", filters=[("n", ">", 6)], order=["-n"])
        def from_the_top(entity):
            print(entity["n"])
            entity["top"] = True
            return entity

        @bulkup.updater(query=lambda c: c.query(kind="Part", ancestor=c.key("Box", 2)))
        def second_box(entity):
            entity["n"] += 1
            return entity
        """,
    )
    for name, handled in (("blue", 5), ("from_the_top", 12), ("second_box", 7)):
        result = shell.bulkup("run", f"choose.py:{name}", "--json", "--batch-size", "4")
        assert result.code == 0, result
        assert result.summary["counts"]["puts"] == handled
        if name == "from_the_top":
            assert result.err.split() == ["9"] * 4 + ["8"] * 4 + ["7"] * 4

    assert {i for i, seen in values(client, name="seen").items() if seen} == set(range(41, 46))
    query = client.query(kind="Item")
    query.add_filter(filter=PropertyFilter("top", "=", True))
    assert {e["n"] for e in query.fetch()} == {7, 8, 9}
    boxes = [(e.key.parent.id, e["n"]) for e in client.query(kind="Part").fetch()]
    assert sorted(boxes) == [(1, 0)] * 7 + [(2, 1)] * 7


def test_a_kindless_query_returns_every_kind_but_ours(shell: Shell, server: Server) -> None:
    client = seed(server, 20)
    seed(server, 10, "Another")
    seed(server, 5, "Zebra")
    shell.write(
        "all.py",
        """
        import bulkup

        @bulkup.updater(query=lambda client: client.query())
        def everything(entity):
            entity["n"] += 1
            return entity
        """,
    )
    result = shell.bulkup("run", "all.py", "--json", "--batch-size", "6")
    assert result.code == 0, result
    assert result.summary["counts"]["puts"] == 35
    for kind, count in (("Item", 20), ("Another", 10), ("Zebra", 5)):
        assert values(client, kind) == dict.fromkeys(range(1, count + 1), 1)
    assert len(user_data(server)) == 35


def test_a_run_touches_only_its_namespace(shell: Shell, server: Server) -> None:
    inside = seed(server, 12, namespace="tenant-a")
    seed(server, 12)
    seed(server, 12, namespace="tenant-b")
    others = contents(server, "", "tenant-b")
    result = shell.bulkup(
        "run", "bump.py", "--namespace", "tenant-a", "--json", "--limit", "5", "--batch-size", "2"
    )
    assert result.code == 75, result
    assert contents(server, "", "tenant-b") == others  # its markers are in its own namespace too
    result = shell.bulkup("resume", "--json")
    assert result.code == 0, result
    assert result.summary["target"]["namespace"] == "tenant-a"
    assert values(inside) == dict.fromkeys(range(1, 13), 1)
    assert contents(server, "", "tenant-b") == others
    assert len(user_data(server, "tenant-a")) == 12


def test_a_query_that_matches_nothing_is_done(shell: Shell) -> None:
    result = shell.bulkup("run", "bump.py")
    assert result.code == 0
    assert "Finished: 0 entities handled" in result.out
