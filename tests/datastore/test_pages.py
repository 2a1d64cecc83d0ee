"""Pages parsed into messages of our own: the same bytes, with values and keys left as they are."""

from __future__ import annotations

import sys
import threading
from typing import Any

from google.cloud.datastore import Key
from google.cloud.datastore_v1.types import datastore as types
from google.cloud.datastore_v1.types import query as query_types
from hypothesis import given

from bulkup.datastore.keys import key_bytes, key_of, key_to_pb
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.messages import EntityPb, KeyPb, ValuePb
from bulkup.datastore.pages import PageEntity, page_result, read_page
from tests.datastore.test_lazy_entity import entity_pbs

RunQueryResponse: Any = types.RunQueryResponse.pb()
EntityResult: Any = query_types.EntityResult.pb()


@given(entity_pbs())
def test_what_is_read_is_written_as_it_was(pb: Any) -> None:
    ours = PageEntity.FromString(pb.SerializeToString())
    assert EntityPb.FromString(ours.SerializeToString()) == pb
    assert ours.HasField("key") == pb.HasField("key")
    assert {n: ValuePb.FromString(v) for n, v in ours.properties.items()} == dict(pb.properties)


def page_of(*keys: bytes) -> bytes:
    answer = RunQueryResponse()
    answer.batch.end_cursor = b"end"
    answer.batch.more_results = 2
    for number, key in enumerate(keys):
        result = answer.batch.entity_results.add(version=number, cursor=b"%d" % number)
        result.entity.key.ParseFromString(key)
        result.entity.properties["n"].integer_value = number
    found: bytes = answer.SerializeToString()
    return found


def test_a_page_holds_what_the_answer_says() -> None:
    keys = [key_bytes(key_to_pb(Key("City", i, project="p"))) for i in (1, 2)]
    batch = read_page(page_of(*keys)).batch
    assert [r.entity.key for r in batch.entity_results] == keys
    assert [(r.version, r.cursor) for r in batch.entity_results] == [(0, b"0"), (1, b"1")]
    assert (batch.end_cursor, batch.more_results) == (b"end", 2)
    assert LazyEntity(batch.entity_results[1].entity)["n"] == 1


def test_keys_that_a_server_serializes_differently_are_rewritten() -> None:
    ours, theirs = [], []
    for id_ in (1, 2):
        pb = key_to_pb(Key("City", id_, project="p"))
        ours.append(key_bytes(pb))
        partition, path = KeyPb(partition_id=pb.partition_id), KeyPb(path=pb.path)
        theirs.append(path.SerializeToString() + partition.SerializeToString())
    raw = page_of(*ours)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine != other
        assert key_of(mine) == key_of(other)
        raw = raw.replace(mine, other)
    assert [r.entity.key for r in read_page(raw).batch.entity_results] == ours


def test_a_result_that_was_looked_up_becomes_one_of_a_page() -> None:
    result = EntityResult(version=5)
    result.entity.key.CopyFrom(key_to_pb(Key("City", 1, project="p")))
    result.entity.properties["n"].integer_value = 3
    ours = page_result(result)
    assert (ours.version, ours.entity.key) == (5, key_bytes(result.entity.key))
    assert LazyEntity(ours.entity)["n"] == 3


def test_bytes_are_not_a_property_name() -> None:
    entity = LazyEntity(EntityPb(properties={"n": ValuePb(integer_value=1)}))
    assert entity.get(b"n") is None
    assert b"n" not in entity
    assert list(entity) == ["n"]


def test_threads_that_read_one_entity_find_all_of_it() -> None:
    pb = EntityPb()
    for number in range(30):
        pb.properties[f"p{number}"].integer_value = number
    pb.properties["tags"].array_value.values.add(integer_value=1)
    wrong: list[object] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(200):
            entity = LazyEntity(pb)
            entity["added"] = 1
            start, lists = threading.Barrier(3), []

            def read(
                entity: LazyEntity = entity,
                start: threading.Barrier = start,
                lists: list[Any] = lists,
            ) -> None:
                start.wait()
                try:
                    lists.append(entity["tags"])
                    wrong.extend(n for n in range(30) if entity[f"p{n}"] != n)
                    if len(dict(entity.items())) != 32 or entity["added"] != 1:
                        wrong.append(len(entity))
                except Exception as error:
                    wrong.append(error)

            threads = [threading.Thread(target=read) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if any(one is not entity["tags"] for one in lists):
                wrong.append("a list was decoded twice")
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
