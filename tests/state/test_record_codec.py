"""The stored form of a run record: records of the version before are read, and written alike."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bulkup.core.errors import StateError
from bulkup.core.model import Counts, RunState, TargetInfo
from bulkup.core.records import Origin, Shard
from bulkup.datastore.messages import EntityPb
from bulkup.state.raw_entities import read_properties
from bulkup.state.record import Chain, Holder, LeaseTerms, Made, MigrationInfo
from bulkup.state.record_codec import read_record, write_record

STORED: dict[str, str] = json.loads(
    (Path(__file__).parent / "data" / "run_records.json").read_text(encoding="utf-8")
)["records"]
"""Serialized entities that commit 8c94393 made of its own records, before there were parts."""


def stored(name: str) -> Any:
    return EntityPb.FromString(base64.b64decode(STORED[name]))


@pytest.mark.parametrize("name", sorted(STORED))
def test_a_record_read_and_written_again_is_the_same_byte_for_byte(name: str) -> None:
    old, new = stored(name), EntityPb()
    write_record(new, old.key, read_record(old, 5))
    assert new == old
    assert new.SerializeToString(deterministic=True) == base64.b64decode(STORED[name])


def test_every_part_is_read_from_the_old_form() -> None:
    record = read_record(stored("running"), 5)
    holder = Holder("9f" * 16, "ann@host", "host/boot", 77, "12345")
    assert record.lease == LeaseTerms(holder, 1767323105, 3)
    assert record.layout.shards == (
        Shard(4, b"\x00cur", b"\xffend", low_cursor=b"\x00cur", after=b"\x01k"),
        Shard(7, after=b"\x02", upto=b"\x03"),
    )
    assert (record.layout.next_shard, record.layout.settled) == (8, Counts(handled=5, puts=5))
    assert (record.layout.fenced_until, record.layout.moved_in) == (1767324000, "0a" * 16)
    assert record.counts == Counts(10, 9, 1, 2, 3, 4, 5)
    assert record.warm == (750.0, 1767323000.25, 10.0)
    assert (record.migration, record.chain, record.version) == (None, Chain(), 5)
    assert record.run_info.target == TargetInfo("project", "database", "namespace", "localhost:1")
    assert record.run_info.params == {"step": "2", "name": "\N{SNOWMAN} 'quoted'\n"}
    ended = read_record(stored("finished"), 5)
    assert (ended.state, ended.ended, ended.keep) == (RunState.FINISHED, 1767324500, False)
    assert (ended.layout.sweep_at, ended.layout.moved_in, ended.reason) == (1767325000, None, None)


def test_a_migration_and_its_successor_are_read_from_the_old_form() -> None:
    origin = Origin("0.1.0", "https://ci/1", "abc123")
    migration = MigrationInfo("0001_bump", "d" * 64, "applied by ann@host", origin)
    assert read_record(stored("migration"), 1).migration == migration
    successor = read_record(stored("successor"), 1)
    assert successor.chain == Chain(("next.py:B", "c.py"), "w" * 64)
    assert successor.migration == MigrationInfo("0001_bump", "d" * 64, None, Origin("0.1.0"))


def test_an_unknown_field_is_none_in_the_record_and_stored_as_an_empty_string() -> None:
    record, written = read_record(stored("new"), 1), EntityPb()
    assert (record.reason, record.layout.moved_in, record.lease.holder) == (None, None, None)
    write_record(written, stored("new").key, replace(record, reason=None))
    values = read_properties(written)
    assert (values["reason"], values["moved_in"], values["holder"]) == ("", "", "")


def test_only_what_is_queried_is_indexed() -> None:
    properties = stored("migration").properties
    indexed = {name for name, value in properties.items() if not value.exclude_from_indexes}
    assert indexed == {"updater", "state", "started", "identity", "open", "migration"}


@pytest.mark.parametrize("name", ["record", "holder", "counts", "shards", "generation", "keep"])
def test_a_record_that_lacks_a_property_is_of_another_version(name: str) -> None:
    record = stored("running")
    del record.properties[name]
    with pytest.raises(StateError, match="another version of bulkup") as caught:
        read_record(record, 1)
    assert caught.value.details == f"KeyError: '{name}'"


def test_a_record_with_a_state_of_the_future_is_of_another_version() -> None:
    record = stored("running")
    record.properties["state"].string_value = "paused"
    with pytest.raises(StateError, match="another version of bulkup"):
        read_record(record, 1)


def test_what_a_run_makes_is_stored_only_once_it_makes_something() -> None:
    record = read_record(stored("new"), 1)
    assert record.made == Made()
    for made in (Made(since_ns=1767323105123456000, record_ns=5), Made(known_in="0a" * 16)):
        written = EntityPb()
        write_record(written, stored("new").key, replace(record, made=made))
        assert read_record(written, 1).made == made
