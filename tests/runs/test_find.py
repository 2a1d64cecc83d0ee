"""Reading what is selected: which entities, and with how many requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import pytest

from bulkup.core.events import Event, Warned
from bulkup.core.selection import EVERYTHING, Selection
from bulkup.runs import find
from bulkup.runs.find import count_matching, find_pages, prepare_reading
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.target import TargetOptions
from tests.cli.shell import entity, put, seed
from tests.conftest import Server


@contextmanager
def reading(
    server: Server,
    selection: Selection,
    monkeypatch: pytest.MonkeyPatch,
    heard: list[Event] | None = None,
) -> Iterator[tuple[PreparedRun, list[str]]]:
    """What is selected, and the calls that were made."""
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    calls: list[str] = []
    with prepare_reading(
        None,
        {},
        selection,
        TargetOptions(project=server.project),
        (heard if heard is not None else []).append,
    ) as prepared:
        for name, method in prepared.rpc.methods.items():
            call = method.future

            def noted(*args: Any, name: str = name, call: Any = call, **options: Any) -> Any:
                calls.append(name)
                return call(*args, **options)

            monkeypatch.setattr(method, "future", noted)
        yield prepared, calls


def test_pages_are_requested_as_they_are_needed(
    embedded: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "ENTITIES_PER_PAGE", 10)
    monkeypatch.setattr(find, "KEYS_PER_PAGE", 10)
    seed(embedded, 35)
    selection = Selection("Item", where="n = 0")
    for limit, pages in ((0, 0), (1, 1), (10, 1), (11, 2), (35, 4), (99, 4), (None, 4)):
        for keys_only in (False, True):
            with reading(embedded, selection, monkeypatch) as (prepared, calls):
                found = list(
                    chain.from_iterable(find_pages(prepared, keys_only=keys_only, limit=limit))
                )
                assert len(found) == min(limit if limit is not None else 99, 35)
                assert [one.key.path[-1].id for one in found] == list(range(1, len(found) + 1))
                assert bool(found and found[0].properties) is not keys_only or not found
                assert calls == ["RunQuery"] * pages, (limit, keys_only)


def test_counting_takes_one_call(embedded: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(embedded, 7)
    with reading(embedded, Selection("Item", where="n = 0"), monkeypatch) as (prepared, calls):
        assert count_matching(prepared) == 7
        assert calls == ["RunAggregationQuery"]
    with reading(embedded, Selection("Item", where="n = 1"), monkeypatch) as (prepared, calls):
        assert count_matching(prepared) == 0
        assert calls == []


@pytest.mark.client_side
def test_an_entity_is_found_once_and_bulkups_own_are_not(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = server.client()
    put(client, [entity(client, "Item", 1, tags=[1, 2, 3]), entity(client, "Item", 2, tags=[5])])
    put(client, [entity(client, "BulkupRun", "x")])
    for selection, count in ((Selection("Item", where="tags > 1"), 2), (EVERYTHING, 2)):
        with reading(server, selection, monkeypatch) as (prepared, _):
            assert count_matching(prepared) == count
            assert len(list(chain.from_iterable(find_pages(prepared)))) == count
            assert len(list(chain.from_iterable(find_pages(prepared, limit=1)))) == 1


def test_a_kind_that_is_not_there_is_named(
    embedded: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(embedded, 1)
    heard: list[Event] = []
    with reading(embedded, Selection("Itm"), monkeypatch, heard) as (prepared, _):
        assert count_matching(prepared) == 0
    (warning,) = heard
    assert isinstance(warning, Warned)
    assert "did you mean Item?" in warning.message
