"""Updaters that make entities which their own query finds: the run does not meet them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud.datastore import Entity, Key
from google.protobuf.timestamp_pb2 import Timestamp

import bulkup
from bulkup.core.errors import QueryError, StateError
from bulkup.core.model import RunState
from bulkup.datastore.keys import key_bytes, key_to_pb
from bulkup.datastore.messages import QueryPb
from bulkup.datastore.pages import PageResult
from bulkup.engine.made_entities import MadeEntities
from bulkup.engine.scan import QueryPlan
from bulkup.state.files import run_folders
from bulkup.state.kinds import CLAIM_KIND, MARKER_KIND, RUN_KIND
from bulkup.state.record import Made, RunRecord
from tests.conftest import Server
from tests.engine import updaters
from tests.engine.conftest import Run, everything, fill

pytestmark = pytest.mark.sampled(5)

COPIED = 1_000_000
"""A copy's id is that much higher: behind the cursor, where the scan would meet it."""


def copy_of(entity: Entity, key: Key) -> Entity:
    copy = Entity(key)
    copy.update(entity)
    return copy


class Copies(bulkup.Updater):
    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        self.put(copy_of(entity, self.client.key("Thing", entity.key.id + COPIED)))


class CopiesWithNewIds(Copies):
    def handle_entity(self, entity: Entity) -> None:
        entity["n"] += 1
        self.put(entity, copy_of(entity, self.client.key("Thing")))


class Renames(Copies):
    def handle_entity(self, entity: Entity) -> None:
        key = self.client.key("Thing", entity.key.id + COPIED)
        self.put(copy_of(entity, key))
        self.delete(entity)


class CopiesOfAnyKind(Copies):
    """Its query has no kind, so whatever it makes belongs to it."""

    def get_query(self) -> Any:
        return self.client.query()

    def handle_entity(self, entity: Entity) -> None:
        self.put(copy_of(entity, self.client.key("Zebra", entity.key.id)))


class CopiesUnderParent(Copies):
    def get_query(self) -> Any:
        return self.client.query(kind="Thing", ancestor=self.client.key("Home", 1))

    def handle_entity(self, entity: Entity) -> None:
        key = self.client.key("Home", 1, "Thing", entity.key.id + COPIED)
        self.put(copy_of(entity, key))


class RenamesByKey(Copies):
    """Its results are keys only, which say nothing of when an entity was made."""

    def get_query(self) -> Any:
        query = super().get_query()
        query.keys_only()
        return query

    def handle_entity(self, entity: Entity) -> None:
        whole = self.client.get(entity.key)
        self.put(copy_of(whole, self.client.key("Thing", entity.key.id + COPIED)))
        self.delete(entity)


def ids(client: Any, kind: str = "Thing") -> list[int]:
    query = client.query(kind=kind)
    query.keys_only()
    return sorted(entity.key.id for entity in query.fetch())


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("batch_size", "shards"), [(1, 1), (7, 3), (40, 2)])
def test_copies_of_the_queried_kind_are_not_copied_again(
    server: Server, run: Run, batch_size: int, shards: int
) -> None:
    count = 12 if batch_size == 1 else 50
    client = fill(server, "Thing", count)
    report = run(server, Copies, batch_size=batch_size, shards=shards)
    assert report.success
    assert (report.counts.handled, report.counts.puts) == (count, count)
    assert ids(client) == [*range(1, count + 1), *range(COPIED + 1, COPIED + count + 1)]


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("updater", "batch_size"), [(Renames, 3), (RenamesByKey, 20)])
def test_a_run_that_renames_keys_ends(
    server: Server, run: Run, updater: Any, batch_size: int
) -> None:
    client = fill(server, "Thing", 50)
    report = run(server, updater, batch_size=batch_size)
    assert report.success
    assert (report.counts.handled, report.counts.puts, report.counts.deletes) == (50, 50, 50)
    assert ids(client) == list(range(COPIED + 1, COPIED + 51))


def test_entities_that_get_their_ids_from_the_server_are_not_handled(
    server: Server, run: Run
) -> None:
    client = fill(server, "Thing", 40, n=0)
    report = run(server, CopiesWithNewIds, batch_size=7)
    assert (report.counts.handled, report.counts.puts) == (40, 80)
    assert [e["n"] for e in everything(client, "Thing")] == [1] * 80


def test_a_query_without_a_kind_does_not_meet_what_the_run_makes(server: Server, run: Run) -> None:
    client = fill(server, "Thing", 30)
    assert run(server, CopiesOfAnyKind, batch_size=4).counts.handled == 30
    assert ids(client, "Zebra") == list(range(1, 31))


def test_a_query_of_an_ancestor_does_not_meet_what_the_run_makes(server: Server, run: Run) -> None:
    client = server.client()
    things = [Entity(client.key("Home", 1, "Thing", i)) for i in range(1, 31)]
    client.put_multi(things)
    assert run(server, CopiesUnderParent, batch_size=4).counts.handled == 30
    assert len(ids(client)) == 60


def test_the_dry_run_foretells_the_numbers(server: Server, run: Run) -> None:
    client = fill(server, "Thing", 30)
    before = ids(client)
    foretold = run(server, Renames, batch_size=4, dry_run=True).counts
    assert ids(client) == before
    assert run(server, Renames, batch_size=4).counts == foretold


@pytest.mark.client_side
def test_processes_do_not_meet_what_they_make(server: Server, run: Run) -> None:
    client = fill(server, "Thing", 60)
    report = run(server, updaters.Renames, processes=2, batch_size=6)
    assert report.counts.handled == 60
    assert ids(client) == list(range(COPIED + 1, COPIED + 61))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("updater", [Renames, CopiesWithNewIds])
def test_a_resumed_run_does_not_meet_what_it_made_before(
    server: Server, run: Run, updater: Any
) -> None:
    client = fill(server, "Thing", 40, n=0)
    assert not run(server, updater, batch_size=4, limit=9).success
    assert not run(server, updater, batch_size=4, limit=9, shards=3).success
    report = run(server, updater, batch_size=4)
    assert report.success
    assert report.counts.handled == 40
    assert len(ids(client)) == (40 if updater is Renames else 80)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("updater", [Copies, Renames, RenamesByKey])
def test_with_its_state_lost_a_run_still_knows_what_it_made_or_is_refused(
    server: Server, run: Run, tmp_path: Path, updater: Any
) -> None:
    client = fill(server, "Thing", 40)
    first = run(server, updater, batch_size=4, limit=18)
    assert not first.success
    state = tmp_path / "state"
    if server.name == "LF" or (updater is RenamesByKey and server.name != "FS"):
        # The results do not say when an entity was created, so only the state knows.
        with pytest.raises(StateError, match=r"only the state directory of .* which entities"):
            run(server, updater, batch_size=4, state_dir=tmp_path / "elsewhere")
        assert not run_folders(tmp_path / "elsewhere")
    else:
        shutil.rmtree(state)
    report = run(server, updater, batch_size=4)
    assert report.success
    assert report.run_id == first.run_id
    assert report.counts.handled == 40
    assert len(ids(client)) == (80 if updater is Copies else 40)


def test_a_neighbour_that_is_put_blindly_is_still_handled_if_it_was_there(
    server: Server, run: Run
) -> None:
    """The put of another key makes an entity only if there was none."""

    class ToTheNext(Copies):
        def handle_entity(self, entity: Entity) -> None:
            following = Entity(self.client.key("Thing", entity.key.id + 1))
            following["by"] = entity.key.id
            self.put(following)

    client = fill(server, "Thing", 20)
    report = run(server, ToTheNext, batch_size=3)
    assert report.counts.handled == 20  # and not the 21st, which the 20th has made
    assert ids(client) == list(range(1, 22))


def test_entities_of_another_kind_cost_no_lookup(embedded: Server, run: Run) -> None:
    """What the query cannot find need not be known: no state is bound, nothing is asked."""

    class Logs(Copies):
        def handle_entity(self, entity: Entity) -> None:
            self.put(Entity(self.client.key("Log")))

    client = fill(embedded, "Thing", 20)
    assert not run(embedded, Logs, batch_size=3, limit=5).success
    (record,) = client.query(kind="BulkupRun").fetch()
    assert "made" not in record


def test_in_a_copy_of_its_datastore_a_run_is_refused(
    embedded: Server, run: Run, tmp_path: Path
) -> None:
    """There every entity was created after the run began."""
    client = fill(embedded, "Thing", 20)
    assert not run(embedded, Copies, batch_size=4, limit=8).success
    copied = replace(embedded, project=f"{embedded.project}-copy")
    there = copied.client()
    for kind in ("Thing", RUN_KIND, CLAIM_KIND, MARKER_KIND):
        for entity in client.query(kind=kind).fetch():
            there.put(copy_of(entity, there.key(*entity.key.flat_path)))
    with pytest.raises(StateError, match="in a copy of its Datastore"):
        run(copied, Copies, batch_size=4, state_dir=tmp_path / "elsewhere")
    assert len(ids(there)) == 28


def test_a_server_that_tells_times_only_in_lookups_is_refused() -> None:
    record = RunRecord(None, RunState.RUNNING, made=Made(since_ns=5))  # type: ignore[arg-type]
    query = QueryPlan(QueryPb(), "", keys_only=False, has_filters=False, ranged=frozenset())
    made = MadeEntities(query, None, SimpleNamespace(record=record), None)  # type: ignore[arg-type]
    assert made.is_made is not None
    result = PageResult()
    result.entity.key = key_bytes(key_to_pb(Key("Thing", 7, project="p")))
    with pytest.raises(QueryError, match="never end"):
        made.is_made(result)
    result.create_time = Timestamp(nanos=5).SerializeToString()
    assert not made.is_made(result)
    result.create_time = Timestamp(nanos=6).SerializeToString()
    assert made.is_made(result)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("name", ["EM", "FS"])
def test_a_run_that_renames_keys_through_its_client_ends_where_times_are_known(
    request: pytest.FixtureRequest, run: Run, name: str, processes: int
) -> None:
    server = request.getfixturevalue({"EM": "embedded", "FS": "fs"}[name])
    client = fill(server, "Thing", 30)
    report = run(server, updaters.RenamesDirectly, batch_size=4, processes=processes)
    assert report.counts.handled == 30
    assert ids(client) == list(range(COPIED + 1, COPIED + 31))
