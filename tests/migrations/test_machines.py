"""Several machines, each of which dies before the end."""

from __future__ import annotations

import shutil
from itertools import pairwise

import pytest
from google.cloud import datastore

from tests.cli.shell import ended, markers, seed
from tests.conftest import Server
from tests.migrations.conftest import Machine, trails

pytestmark = pytest.mark.sampled(9)

ITEMS = 12


def records(client: datastore.Client) -> list[datastore.Entity]:
    found = [r for r in client.query(kind="BulkupRun").fetch() if r.get("migration")]
    return sorted(found, key=lambda run_info: run_info["started"])


def assert_applied_once_and_in_order(client: datastore.Client) -> None:
    assert trails(client) == {"abcde"}
    ledger = records(client)
    assert [r["migration"] for r in ledger] == ["0001_a", "0002_b", "0003_c", "0004_d", "0005_e"]
    for before, after in pairwise(ledger):
        # `ended` is stored in whole seconds.
        assert before["ended"] <= after["started"]
    assert {r["state"] for r in ledger} == {"finished"}


def test_three_machines_that_die_apply_five_migrations_once(
    machines: Machine, server: Server
) -> None:
    client = seed(server, ITEMS)
    first, second, third = machines("one"), machines("two"), machines("three")
    small = ("migrate", "--batch-size", "3", "--in-flight", "2")
    assert first.bulkup(*small, env={"DIE_AT": "b"}).code == -9
    assert second.bulkup(*small, env={"DIE_AT": "c"}).code == -9
    shutil.rmtree(second.state_dir)
    assert second.bulkup(*small, env={"DIE_AT": "c"}).code == -9
    assert third.bulkup(*small, env={"DIE_AT": "e"}).code == -9
    assert first.bulkup("status", "--check").code == 4
    result = first.bulkup(*small)
    assert result.code == 0, result
    assert_applied_once_and_in_order(client)
    assert second.bulkup("migrate").out == "Nothing is pending.\n"
    assert third.bulkup("status", "--check").code == 0
    assert list(client.query(kind="BulkupClaim").fetch()) == []


def test_two_migrates_started_together_do_not_interleave(machines: Machine, server: Server) -> None:
    client = seed(server, ITEMS)
    both = [machines("one"), machines("two")]
    started = [shell.begin("migrate", "--json", "--wait", "60s") for shell in both]
    results = [ended(process) for process in started]
    assert [r.code for r in results] == [0, 0], results
    applied = sorted(r.of_type("migrate")[0]["applied"] for r in results)
    assert applied == [[], ["0001_a", "0002_b", "0003_c", "0004_d", "0005_e"]]
    assert_applied_once_and_in_order(client)
    assert markers(server) == []
