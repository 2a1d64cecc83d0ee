"""A query cut into shards, on real servers: every entity once, whatever the cuts."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore
from google.cloud.datastore import Entity
from google.cloud.datastore.query import PropertyFilter

import bulkup
from bulkup.core.errors import UsageError
from bulkup.datastore.keys import key_of, key_to_pb
from bulkup.datastore.rpc import Rpc
from bulkup.engine import splits
from bulkup.engine.scan import plan_query
from bulkup.engine.splits import Sample, Sampling, key_order, why_not_split
from bulkup.state.kinds import MARKER_KIND
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill

pytestmark = pytest.mark.sampled(2)


@pytest.fixture(autouse=True)
def small_kinds_are_worth_cutting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "MIN_PROBED_ENTITIES", 1)


@bulkup.updater(kind="Thing")
def count(entity: Entity) -> Entity:
    entity["n"] += 1
    return entity


@bulkup.updater(kind="Thing", filters=[("even", "=", True)])
def count_even(entity: Entity) -> Entity:
    entity["n"] += 1
    return entity


@bulkup.updater(query=lambda client: client.query(kind="Thing", ancestor=client.key("Home", 2)))
def count_at_home(entity: Entity) -> Entity:
    entity["n"] += 1
    return entity


def shards_of(state: Path) -> list[tuple[bytes, bytes, str]]:
    """Bounds and state of every shard that the last run ever had."""
    file = max(state.glob("*/checkpoint.sqlite"))
    with closing(sqlite3.connect(file)) as db, db:
        return db.execute('SELECT "after", upto, state FROM shards ORDER BY id').fetchall()


def test_every_entity_is_handled_once_in_shards(server: Server, run: Run, tmp_path: Path) -> None:
    client = fill(server, "Thing", 300, n=0)
    report = run(server, count, shards=4, batch_size=20)
    assert report.success
    assert report.counts.handled == report.counts.puts == 300
    assert [e["n"] for e in everything(client, "Thing")] == [1] * 300
    assert len(shards_of(tmp_path / "state")) >= 4
    assert not list(client.query(kind=MARKER_KIND).fetch())


def test_shards_keep_the_filters_and_the_ancestor_of_the_query(
    server: Server, run: Run, tmp_path: Path
) -> None:
    client = fill(server, "Thing", 200, n=0, even=lambda i: i % 2 == 0)
    homes = [
        Entity(client.key("Home", home, "Thing", i)) for home in (1, 2, 3) for i in range(1, 101)
    ]
    for entity in homes:
        entity.update({"n": 0, "even": False})
    client.put_multi(homes)
    assert run(server, count_even, shards=3, batch_size=10).counts.handled == 100
    assert run(server, count_at_home, shards=3, batch_size=10).counts.handled == 100
    found = {e.key.flat_path: e["n"] for e in everything(client, "Thing")}
    assert {path for path, n in found.items() if n == 1} == {
        *(("Thing", i) for i in range(2, 201, 2)),
        *(("Home", 2, "Thing", i) for i in range(1, 101)),
    }
    assert set(found.values()) == {0, 1}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("lose", [False, True], ids=["resumed", "resumed elsewhere"])
def test_a_stopped_run_resumes_with_another_number_of_shards(
    server: Server, run: Run, tmp_path: Path, lose: bool
) -> None:
    client = fill(server, "Thing", 300, n=0)
    first = run(server, count, shards=3, batch_size=10, limit=100)
    assert not first.success
    more = {"state_dir": tmp_path / "elsewhere"} if lose else {}
    second = run(server, count, shards=2, batch_size=15, limit=100, **more)
    assert second.run_id == first.run_id
    third = run(server, count, shards=5, batch_size=10, **more)
    assert third.success
    assert third.counts.handled == 300
    assert [e["n"] for e in everything(client, "Thing")] == [1] * 300
    if not lose:  # else the fences stay until no late commit of the first runner can come
        assert not list(client.query(kind=MARKER_KIND).fetch())


def test_a_run_with_one_shard_is_split_when_resumed_with_more(
    embedded: Server, run: Run, tmp_path: Path
) -> None:
    client = fill(embedded, "Thing", 400, n=0)
    run(embedded, count, shards=1, batch_size=10, limit=50)
    assert len(shards_of(tmp_path / "state")) == 1
    assert run(embedded, count, shards=4, batch_size=10).success
    assert [e["n"] for e in everything(client, "Thing")] == [1] * 400
    assert len(shards_of(tmp_path / "state")) >= 5  # the first one's rest went to four others


def test_when_a_shard_is_done_the_largest_one_is_split(
    embedded: Server, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(embedded, "Thing", 600, n=0)
    ids = (*range(1, 9), *range(100, 600, 50))
    uneven = Sample([key_to_pb(client.key("Thing", i)) for i in ids])
    monkeypatch.setattr(Sampling, "take", lambda _: uneven)
    assert run(embedded, count, shards=4, batch_size=10).counts.handled == 600
    assert [e["n"] for e in everything(client, "Thing")] == [1] * 600
    assert len(shards_of(tmp_path / "state")) >= 1 + 4 + 2


def test_a_query_on_a_key_range_is_split_within_it(server: Server, run: Run) -> None:
    @bulkup.updater(
        query=lambda client: client.query(
            kind="Thing",
            filters=[
                PropertyFilter("__key__", ">", client.key("Thing", 50)),
                PropertyFilter("__key__", "<=", client.key("Thing", 250)),
            ],
        )
    )
    def in_range(entity: Entity) -> Entity:
        entity["n"] += 1
        return entity

    client = fill(server, "Thing", 300, n=0)
    assert run(server, in_range, shards=3, batch_size=20).counts.handled == 200
    assert [e["n"] for e in everything(client, "Thing")] == [0] * 50 + [1] * 200 + [0] * 50


def test_a_query_that_cannot_be_split_warns_and_finishes(server: Server, run: Run) -> None:
    @bulkup.updater(kind="Thing", order="i")
    def in_order(entity: Entity) -> Entity:
        entity["n"] += 1
        return entity

    fill(server, "Thing", 30, n=0)
    report = run(server, in_order, shards=4, batch_size=10)
    assert report.counts.handled == 30
    assert "the query is not split into shards: it orders or ranges on i" in report.warnings


def test_a_small_kind_is_not_split(server: Server, run: Run, tmp_path: Path) -> None:
    fill(server, "Thing", 1, n=0)
    assert run(server, count, shards=8).counts.handled == 1
    assert len(shards_of(tmp_path / "state")) == 1


def test_an_invalid_number_of_shards_is_refused(embedded: Server, run: Run) -> None:
    for shards in (0, 65):
        with pytest.raises(UsageError, match="shards is"):
            run(embedded, count, shards=shards)


@pytest.fixture
def rpc(server: Server) -> Iterator[Rpc]:
    made = Rpc(server.client())
    yield made
    made.close()


def test_keys_are_ordered_as_datastore_orders_them(server: Server, rpc: Rpc) -> None:
    client = server.client()
    rng = random.Random(5)
    parts: list[Any] = [1, 2, 10, 2**40, "1", "10", "a", "Z", "ä", "a\x00", "€", "😀", "aa"]
    keys = []
    for _ in range(250):
        path: list[Any] = []
        for _ in range(rng.randint(0, 2)):
            path += [rng.choice(["Home", "Room"]), rng.choice(parts)]
        keys.append(client.key(*path, "Thing", rng.choice(parts)))
    client.put_multi([Entity(key) for key in set(keys)])
    query = plan_query(client.query(kind="Thing"), client)
    answer = rpc.run_query(query.pb, "").result().batch.entity_results
    orders = [key_order(result.entity.key) for result in answer]
    assert len(orders) == len(set(keys))
    assert orders == sorted(orders)


def test_a_sample_has_only_keys_of_the_query(server: Server, rpc: Rpc) -> None:
    client = fill(server, "Thing", 500)
    at_home = [Entity(client.key("Home", 2, "Thing", i)) for i in range(1, 301)]
    client.put_multi(at_home)
    query = plan_query(client.query(kind="Thing", ancestor=client.key("Home", 2)), client)
    found = Sampling(rpc, query, 4).take().inside(b"", b"")
    paths = [[(e.kind, e.id) for e in key_of(key).path] for key in found]
    assert len(paths) >= 3
    assert all(path[0] == ("Home", 2) for path in paths)
    assert paths == sorted(paths)


def test_a_sample_is_narrowed_to_keys_between_two_bounds() -> None:
    client = datastore.Client(project="p", credentials=_nobody())
    keys = [key_to_pb(client.key("Thing", i)) for i in (5, 1, 9, 3, 7)]
    sample = Sample(keys)

    def ids(after: int, upto: int) -> list[int]:
        bounds = [key_to_pb(client.key("Thing", i)).SerializeToString() for i in (after, upto)]
        return [key_of(key).path[0].id for key in sample.inside(*bounds)]

    assert [key_of(key).path[0].id for key in sample.inside(b"", b"")] == [1, 3, 5, 7, 9]
    assert ids(3, 9) == [5, 7]  # the query is never split at one of the bounds
    assert ids(4, 6) == [5]
    assert ids(5, 6) == []


def _nobody() -> Any:
    from google.auth.credentials import AnonymousCredentials

    return AnonymousCredentials()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda q: q, None),
        (lambda q: setattr(q, "order", ["__key__"]), None),
        (lambda q: setattr(q, "order", ["-__key__"]), "descending order"),
        (lambda q: setattr(q, "order", ["a"]), "orders or ranges on a"),
        (lambda q: setattr(q, "kind", ""), "no kind"),
    ],
)
def test_the_reason_why_a_query_cannot_be_split(build: Any, says: str | None) -> None:
    client = datastore.Client(project="p", credentials=_nobody())
    query = client.query(kind="Thing")
    build(query)
    reason = why_not_split(plan_query(query, client))
    if says is None:
        assert reason is None
    else:
        assert reason is not None
        assert says in reason
