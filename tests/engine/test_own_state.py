"""Queries that only the run's own state can resume: refused without it, and handled once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.core.errors import Exit, StateError
from bulkup.core.events import WouldChange
from bulkup.state.files import run_folders
from bulkup.state.kinds import RUN_KIND
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill
from tests.engine.test_made_entities import RenamesByKey


@bulkup.updater(kind="Thing", order="i")
def in_order(entity: Entity) -> Entity:
    entity["times"] += 1
    return entity


@bulkup.updater(kind="Thing", filters=[("i", ">=", 1)])
def in_range(entity: Entity) -> Entity:
    entity["times"] += 1
    return entity


@bulkup.updater(kind="Thing", order="tags")
def by_tags(entity: Entity) -> Entity:
    entity["times"] += 1
    return entity


@pytest.mark.one_in(3)
@pytest.mark.parametrize("updater", [in_order, in_range, by_tags])
def test_an_ordered_or_ranged_run_is_refused_without_its_state(
    server: Server, run: Run, tmp_path: Path, updater: Any
) -> None:
    """A live user moves what is done to where it is read again: only the state knows it."""
    client = fill(server, "Thing", 30, times=0, tags=lambda i: [i, i + 100])
    assert not run(server, updater, batch_size=5, limit=10).success
    done = [e for e in everything(client, "Thing") if e["times"]]
    assert len(done) == 10
    for entity in done:
        entity["i"] += 1000
        entity["tags"] = [2000 + entity["i"]]
    client.put_multi(done)
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(StateError) as refused:
        run(server, updater, batch_size=5, state_dir=elsewhere)
    assert "orders or ranges on" in refused.value.message
    assert "--new" in refused.value.message
    assert not run_folders(elsewhere)  # nothing is left that `bulkup resume` would find
    assert sum(e["times"] for e in everything(client, "Thing")) == 10
    report = run(server, updater, batch_size=5)
    assert report.success
    assert report.counts.handled == 30
    assert {e["times"] for e in everything(client, "Thing")} == {1}


def test_an_ordered_run_of_an_earlier_version_is_bound_to_its_state_too(
    embedded: Server, run: Run, tmp_path: Path
) -> None:
    """That version noted the state in the run record only once the run had moved an entity."""
    client = fill(embedded, "Thing", 30, times=0)
    first = run(embedded, in_order, batch_size=5, limit=10)
    (record,) = client.query(kind=RUN_KIND).fetch()
    assert record["moved_in"]
    record["moved_in"] = ""
    client.put(record)
    with pytest.raises(StateError, match="only the state directory of"):
        run(embedded, in_order, batch_size=5, state_dir=tmp_path / "elsewhere")
    second = run(embedded, in_order, batch_size=5, limit=10)
    assert second.run_id == first.run_id
    (record,) = client.query(kind=RUN_KIND).fetch()
    assert record["moved_in"]
    assert run(embedded, in_order, batch_size=5).counts.handled == 30
    assert {e["times"] for e in everything(client, "Thing")} == {1}


@pytest.mark.parametrize("updater", [in_order, RenamesByKey])
def test_an_older_copy_of_the_state_is_refused(
    embedded: Server, run: Run, tmp_path: Path, updater: Any
) -> None:
    """It lacks the keys of what was handled, or made, after it was copied."""
    client = fill(embedded, "Thing", 30, times=0)
    assert not run(embedded, updater, batch_size=3, limit=6).success
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    assert not run(embedded, updater, batch_size=3, limit=12).success
    before = [(e.key.id, dict(e)) for e in everything(client, "Thing")]
    refused = run(embedded, updater, batch_size=3, state_dir=tmp_path / "copy")
    assert refused.exit_code == Exit.FAILED
    assert "is an older copy" in refused.reason
    assert [(e.key.id, dict(e)) for e in everything(client, "Thing")] == before
    report = run(embedded, updater, batch_size=3)
    assert report.success
    assert report.counts.handled == 30
    assert len(everything(client, "Thing")) == 30


def test_a_dry_run_over_an_array_order_counts_each_entity_once(server: Server, run: Run) -> None:
    fill(server, "Thing", 20, tags=lambda i: [i, i + 7, i + 30], times=0)
    changes: list[WouldChange] = []
    report = run(
        server, by_tags, batch_size=3, dry_run=True,
        listener=lambda event: changes.append(event) if isinstance(event, WouldChange) else None,
    )  # fmt: skip
    assert (report.counts.handled, report.counts.puts) == (20, 20)
    assert len({change.key for change in changes}) == len(changes) == 20
