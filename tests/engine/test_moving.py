"""Updaters that change what their query orders or ranges on."""

from __future__ import annotations

from google.cloud.datastore import Entity

import bulkup
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill


@bulkup.updater(kind="Thing", order="n")
def raise_n(entity: Entity) -> Entity:
    entity["n"] += 1000
    entity["times"] += 1
    return entity


@bulkup.updater(kind="Thing", filters=[("n", ">=", 0)])
def raise_n_in_range(entity: Entity) -> Entity:
    entity["n"] += 1000
    entity["times"] += 1
    return entity


@bulkup.updater(kind="Thing", order="tags")
def count_visits(entity: Entity) -> Entity:
    entity["times"] += 1
    return entity


def test_a_query_ordered_by_a_property_that_grows_during_the_run_ends_and_handles_each_entity_once(
    server: Server, run: Run
) -> None:
    client = fill(server, "Thing", 60, n=lambda i: i, times=0)
    report = run(server, raise_n, batch_size=7)
    assert report.success
    assert report.counts.handled == 60
    assert {e["times"] for e in everything(client, "Thing")} == {1}
    assert any("orders or ranges on (n)" in warning for warning in report.warnings)


def test_a_query_ranging_on_a_property_that_grows_during_the_run_ends_and_handles_each_entity_once(
    server: Server, run: Run
) -> None:
    client = fill(server, "Thing", 60, n=lambda i: i, times=0)
    report = run(server, raise_n_in_range, batch_size=7)
    assert report.counts.handled == 60
    assert {e["times"] for e in everything(client, "Thing")} == {1}


def test_a_resumed_run_handles_no_moved_entity_again(server: Server, run: Run) -> None:
    client = fill(server, "Thing", 60, n=lambda i: i, times=0)
    first = run(server, raise_n, batch_size=7, limit=25)
    assert not first.success
    second = run(server, raise_n, batch_size=7)
    assert second.run_id == first.run_id
    assert second.counts.handled == 60
    assert {e["times"] for e in everything(client, "Thing")} == {1}


def test_an_entity_that_is_returned_once_per_array_element_is_handled_once(
    server: Server, run: Run
) -> None:
    client = fill(server, "Thing", 20, tags=lambda i: [i, i + 7, i + 30], times=0)
    report = run(server, count_visits, batch_size=3)
    assert report.counts.handled == 20
    assert {e["times"] for e in everything(client, "Thing")} == {1}
    assert not report.warnings  # nothing has moved
