"""The report has what a run was predicted to cost beside what its connection has counted."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.core.operations import Operations
from bulkup.report.summary_rows import rows_of
from tests.conftest import Server
from tests.engine.conftest import Run, fill

BOOKKEEPING = 60
"""Operations of a short run beside those on its entities; measured: about 20."""


class Halves(bulkup.Updater):
    """Deletes every third entity, and writes the others."""

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        if entity["i"] % 3 == 0:
            self.delete(entity)
            return
        entity["n"] = entity["i"]
        self.put(entity)


def test_predicted_and_counted_operations_are_reported(server: Server, run: Run) -> None:
    fill(server, "Thing", 120)
    report = run(server, Halves, batch_size=20)
    assert report.operations is not None
    counted = report.operations.counted
    assert report.operations.predicted == Operations(reads=120, writes=80, deletes=40)
    assert 120 <= counted.reads <= 120 + BOOKKEEPING
    assert 80 <= counted.writes <= 80 + BOOKKEEPING
    assert 40 <= counted.deletes <= 40 + BOOKKEEPING
    if server.name == "LF":
        # Three index entries of each written entity, at least one of each deleted.
        assert counted.index_updates is not None
        assert counted.index_updates >= 120
    elif server.name == "FS":
        assert counted.index_updates is None
    rows = dict(rows_of(report))
    assert f"{counted.reads:,} reads (120 predicted)" in rows["Operations"]
    assert f"{counted.deletes:,} deletes (40 predicted)" in rows["Operations"]


def test_a_resumed_run_reports_those_of_its_last_process(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 30)
    run(embedded, Halves, limit=20, batch_size=10)
    report = run(embedded, Halves, batch_size=10)
    assert report.counts.handled == 30
    assert report.operations is not None
    assert report.operations.predicted.reads == 10
    assert dict(rows_of(report))["Operations"].endswith(" by this process")


def test_a_handlers_own_reads_by_key_are_counted(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 50)

    class Looks(Halves):
        def handle_entity(self, entity: Entity) -> None:
            for i in range(10):
                self.client.get(self.client.key("Other", i + 1))

    report = run(embedded, Looks)
    assert report.operations is not None
    assert 550 <= report.operations.counted.reads <= 550 + BOOKKEEPING
    assert report.operations.counted.writes <= BOOKKEEPING
    assert report.operations.predicted == Operations(reads=50)


@pytest.mark.parametrize("keys_only", [True, False])
def test_a_query_of_keys_only_is_one_read(embedded: Server, run: Run, keys_only: bool) -> None:
    fill(embedded, "Thing", 200)

    @bulkup.updater(kind="Thing", keys_only=keys_only)
    def looks(entity: Entity) -> None:
        """What is deleted is read, too, so that it can be put back."""

    report = run(embedded, looks)
    assert report.counts.left_alone == 200
    assert report.operations is not None
    assert (report.operations.counted.reads < 200) == keys_only


def test_a_dry_run_has_none(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 3)
    assert "Operations" not in dict(rows_of(run(embedded, Halves, dry_run=True)))
