"""A cursor is a position: a query resumed from it returns the rest, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.local.differential.answers import Scan, scan
from tests.local.differential.budget import examples
from tests.local.differential.build import Place, query, where
from tests.local.differential.compare import Exchange, Judge
from tests.local.differential.strategies import queries, relocate, worlds
from tests.local.differential.wire import REQUESTS, Query


@given(st.data())
@examples(25)
def test_each_cursor_resumes_with_the_rest(
    beside_fs: Judge, fresh: Callable[[], Place], data: st.DataObject
) -> None:
    place = fresh()
    world = data.draw(worlds(arrays=False, size=8))
    beside_fs.store(place, [relocate(place, entity) for entity in world])
    asked = relocate(place, data.draw(queries(world, whole=True)))
    exchange, ours, theirs = beside_fs.scans(place, asked)
    same = beside_fs.check(exchange)
    assume(same and len(ours.rows) > 1)
    for position in range(len(ours.rows)):
        _same_window(beside_fs, place, asked, (ours, theirs), (position, None))
    _same_window(beside_fs, place, asked, (ours, theirs), (None, 0))
    first, last = sorted(
        data.draw(st.tuples(*[st.integers(0, len(ours.rows) - 1)] * 2), label="window")
    )
    _same_window(beside_fs, place, asked, (ours, theirs), (first, last))


@given(st.data())
@examples(20)
def test_pages_of_any_size_add_up_to_the_whole(
    beside_fs: Judge, fresh: Callable[[], Place], data: st.DataObject
) -> None:
    """Also over arrays, where FS repeats entities: the embedded server compared with itself."""
    place = fresh()
    world = data.draw(worlds(size=8))
    beside_fs.store(place, [relocate(place, entity) for entity in world])
    asked = relocate(place, data.draw(queries(world, whole=True)))
    whole = scan(beside_fs.ours, place, asked)
    assume(whole.code == "OK" and whole.rows)
    size = data.draw(st.integers(1, len(whole.rows)), label="page size")
    rows: list[str] = []
    step = Query()
    step.CopyFrom(asked)
    step.limit.value = size
    while True:
        page = scan(beside_fs.ours, place, step)
        assert page.code == "OK", page
        rows += page.rows
        if not page.rows:
            break
        assert page.end_cursor == page.cursors[-1]
        step.start_cursor = page.end_cursor
    assert rows == whole.rows
    assert len(set(whole.cursors)) == len(whole.cursors), "two results share a cursor"
    for position in range(len(rows)):
        resumed = _window(asked, whole, (position, None))
        assert scan(beside_fs.ours, place, resumed).rows == rows[position + 1 :]
        ended = _window(asked, whole, (None, position))
        assert scan(beside_fs.ours, place, ended).rows == rows[: position + 1]


@pytest.mark.chaos
def test_every_window_of_an_ordered_query(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    beside_fs.store(
        place, [place.entity(("K", i), {"p": i % 2, "q": -i}) for i in range(1, 6)]
    )  # fmt: skip
    for order in ((), ("p",), ("-p",), ("p", "-q"), ("-p", "__key__"), ("__key__",), ("-__key__",)):
        asked = query("K", order=order)
        _, ours, theirs = beside_fs.scans(place, asked)
        for first in (None, *range(5)):
            for last in (None, *range(5)):
                _same_window(beside_fs, place, asked, (ours, theirs), (first, last))


def test_offset_and_limit_inside_a_window(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    beside_fs.store(place, [place.entity(("K", i), {"p": i}) for i in range(1, 10)])
    _, ours, theirs = beside_fs.scans(place, query("K", order=("p",)))
    for offset in (0, 1, 3, 5, 9):
        for limit in (None, 0, 1, 4, 5, 9):
            asked = query("K", order=("p",), offset=offset, limit=limit)
            _same_window(beside_fs, place, asked, (ours, theirs), (1, None))
            _same_window(beside_fs, place, asked, (ours, theirs), (1, 6))


def test_a_cursor_outlives_its_entity(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    beside_fs.store(place, [place.entity(("K", i), {"p": i % 4}) for i in range(1, 10)])
    for order in ((), ("p",), ("-p",)):
        asked = query("K", order=order)
        _, ours, theirs = beside_fs.scans(place, asked)
        gone = place.key("K", 4)
        for wire in beside_fs.both():
            _delete(wire, place, gone)
        for position in range(9):
            _same_window(beside_fs, place, asked, (ours, theirs), (position, None))
        beside_fs.store(place, [place.entity(("K", 4), {"p": 0})])


def test_a_cursor_of_one_query_in_another(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    """Not recommended, but people do it: where it resumes must not depend on the server."""
    place = fresh()
    beside_fs.store(place, [place.entity(("K", i), {"p": i % 3, "q": i}) for i in range(1, 10)])
    plain = query("K")
    _, ours, theirs = beside_fs.scans(place, plain)
    for other in (
        query("K", filter=where("p", "=", 1)),
        query("K", projection=("__key__",)),
        query("K", filter=where("__key__", ">", place.key("K", 2))),
        query("K", order=("__key__",)),
        query("K", order=("-__key__",)),
    ):
        for position in (0, 4, 8):
            _same_window(beside_fs, place, other, (ours, theirs), (position, None))


def test_an_invalid_cursor_is_refused(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    beside_fs.store(place, [place.entity(("K", i), {"p": i}) for i in range(1, 4)])
    for cursor in (b"x", b"\0", b"\xff" * 20, b"garbage, quite long garbage"):
        for at in ("start_cursor", "end_cursor"):
            asked = query("K")
            setattr(asked, at, cursor)
            beside_fs.same_scan(place, asked)


def _window(asked: Any, whole: Scan, window: tuple[int | None, int | None]) -> Any:
    first, last = window
    part = Query()
    part.CopyFrom(asked)
    if first is not None:
        part.start_cursor = whole.cursors[first]
    if last is not None:
        part.end_cursor = whole.cursors[last]
    return part


def _same_window(
    judge: Judge,
    place: Place,
    asked: Any,
    scans: tuple[Scan, Scan],
    window: tuple[int | None, int | None],
) -> bool:
    """The results after `window[0]` up to `window[1]`, by each server's own cursors."""
    answers = []
    for wire, whole in zip(judge.both(), scans, strict=True):
        answers.append(scan(wire, place, _window(asked, whole, window)).answer())
    note = Query()
    note.CopyFrom(asked)
    note.start_cursor, note.end_cursor = (
        b"" if at is None else f"after result {at}".encode() for at in window
    )
    return judge.check(
        Exchange(judge.ours, judge.theirs, place, "RunQuery", note, answers[0], answers[1])
    )


def _delete(wire: Any, place: Place, key: Any) -> None:
    request = REQUESTS["Commit"](project_id=place.project, mode=2)
    request.mutations.add().delete.CopyFrom(key)
    assert wire.call("Commit", request).code == "OK"
