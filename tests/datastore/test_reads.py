"""What guards the writes of a handler call."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.datastore_v1.types import datastore as types

from bulkup.datastore.messages import (
    LookupResponse,
    Pb,
    RunAggregationQueryResponse,
    RunQueryResponse,
)
from bulkup.datastore.reads import ABSENT, Reads, kind_mark, marks_of

ReadOptions: Any = types.ReadOptions.pb()
TransactionOptions: Any = types.TransactionOptions.pb()


def lookup(version: int, *, found: bool = True, transaction: bytes = b"") -> Pb:
    response = LookupResponse(transaction=transaction)
    result = (response.found if found else response.missing).add(version=version)
    result.entity.key.path.add(kind="Note", id=1)
    return response


KEY: bytes = lookup(1).found[0].entity.key.SerializeToString()


def test_the_first_version_that_is_known_counts() -> None:
    reads = Reads()
    for version in (0, 7, 9):
        reads.note_lookup(lookup(version), None)
    assert reads.versions == {KEY: 7}
    reads.note_lookup(lookup(9, found=False), None)
    assert reads.versions == {KEY: 7}


def test_what_was_missing_is_absent_whatever_its_version() -> None:
    reads = Reads()
    reads.note_lookup(lookup(9, found=False), None)
    reads.note_lookup(lookup(10), None)
    assert reads.versions == {KEY: ABSENT}
    reads.clear()
    assert not reads.versions


@pytest.mark.parametrize("transaction", [b"", b"t"])
def test_a_read_of_the_past_is_not_noted(transaction: bytes) -> None:
    options = ReadOptions()
    if transaction:  # one that the read itself begins
        options.new_transaction.read_only.read_time.seconds = 5
    else:
        options.read_time.seconds = 5
    reads = Reads()
    reads.note_lookup(lookup(7, transaction=transaction), options)
    reads.note_query(RunQueryResponse(), options if not transaction else None, None)
    later = ReadOptions(transaction=transaction) if transaction else options
    reads.note_lookup(lookup(7), later)
    assert KEY not in reads.versions


def test_a_read_in_a_transaction_of_the_present_is_noted() -> None:
    options = ReadOptions()
    options.new_transaction.read_write.SetInParent()
    reads = Reads()
    reads.note_begun(b"past", TransactionOptions(read_only={"read_time": {"seconds": 5}}))
    reads.note_lookup(lookup(7, transaction=b"t"), options)
    assert reads.versions == {KEY: 7}
    reads.clear()
    reads.note_lookup(lookup(7), ReadOptions(transaction=b"t"))
    assert reads.versions == {KEY: 7}


def test_a_query_that_finds_nothing_meets_writes_of_its_kind() -> None:
    query: Any = types.RunQueryRequest.pb()().query
    query.kind.add(name="Note")
    for response in (RunQueryResponse(), RunAggregationQueryResponse()):
        reads = Reads()
        reads.note_query(response, None, query)
        assert set(marks_of(KEY)) & reads.versions.keys() == {kind_mark("Note")}
        reads.note_query(response, None, None)
        assert set(marks_of(KEY)) & reads.versions.keys() == {kind_mark("Note"), kind_mark("")}
