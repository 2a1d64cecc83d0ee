"""What a run on a list of keys reads, and what it proposes."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.core.clock import Clock
from bulkup.core.records import Shard
from bulkup.datastore.connect import open_rpc
from bulkup.datastore.keys import key_bytes, key_of, key_to_pb
from bulkup.datastore.reads import ABSENT
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.target import resolve
from bulkup.engine.key_scan import KeyPlan, KeySampling, open_scan
from bulkup.engine.scan import plan_query
from bulkup.state.key_list import KeyList
from tests.conftest import Server
from tests.engine.conftest import Run, fill


def read(server: Server, ids: list[int], shard: Shard, page: int) -> list[int]:
    """The ids that a scan delivers, negative where there is no entity."""
    found: list[int] = []
    target = resolve(server.project, None, None)
    rpc = open_rpc(target, RetryPolicy(), Clock())
    key_list = KeyList.of((key(server, i) for i in ids), "a test")
    plan = KeyPlan.of(
        plan_query(target.client.query(kind="Thing"), target.client), key_list.facts, key_list
    )
    try:
        scan = open_scan(rpc, plan, shard, page)
        while not scan.is_over:
            results = scan.take()
            assert len(results) <= page
            for result in results:
                assert result.cursor == result.entity.key
                id_ = int(key_of(result.entity.key).path[-1].id)
                found.append(-id_ if result.version == ABSENT else id_)
        scan.close()
    finally:
        plan.close()
        rpc.close()
    return found


def key(server: Server, id_: int) -> bytes:
    return key_bytes(key_to_pb(server.client().key("Thing", id_)))


@pytest.fixture(autouse=True)
def here(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)


def test_keys_are_read_in_order_within_a_shard_from_its_mark(server: Server) -> None:
    fill(server, "Thing", 30)
    ids = [40, 3, 7, 21, 5, 9, 12, 33]
    assert read(server, ids, Shard(1), 3) == [3, 5, 7, 9, 12, 21, -33, -40]
    inside = Shard(1, after=key(server, 5), upto=key(server, 33))
    assert read(server, ids, inside, 100) == [7, 9, 12, 21, -33]
    begun = Shard(1, low_cursor=key(server, 9), end=key(server, 21))
    assert read(server, ids, begun, 1) == [12, 21]


def test_an_answer_that_is_too_large_is_asked_for_in_parts(server: Server) -> None:
    client, ids = server.client(), [*range(1, 13)]
    for id_ in ids:
        large = Entity(client.key("Thing", id_), exclude_from_indexes=["data"])
        large["data"] = "x" * 900_000
        client.put(large)
    assert read(server, ids, Shard(1), 20) == ids


def test_a_sample_of_a_list_is_of_its_keys(server: Server) -> None:
    key_list = KeyList.of((key(server, i) for i in range(1, 500)), "a test")
    sample = KeySampling(key_list, 2).take()
    keys = sample.inside(b"", b"")
    assert 32 <= len(keys) <= 64
    assert {*keys} <= {*key_list}
    key_list.close()


@pytest.mark.client_side
def test_a_run_of_this_process_alone_proposes_no_retry(
    server: Server, run: Run, tmp_path: Path
) -> None:
    fill(server, "Thing", 3)

    @bulkup.updater(kind="Thing", max_failures=-1)
    def fails(entity: Entity) -> Entity:
        raise ValueError("no")

    report = run(server, fails)
    assert (report.exit_code, report.next_command) == (3, "")
