"""What a commit changes, what it answers, and what it leaves unchanged."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.local.differential.budget import examples
from tests.local.differential.build import Place, Time, value
from tests.local.differential.compare import Judge
from tests.local.differential.story import (
    CURRENT,
    FUTURE,
    NONE,
    OLD,
    ZERO,
    Step,
    Write,
    same_story,
)
from tests.local.differential.wire import PropertyTransform

PATHS: tuple[tuple[str | int, ...], ...] = (("A", 1), ("A", "x"), ("A", 1, "B", 1))
FAIL, SERVER_VALUE, UNSET = 3, 1, 0

PLAIN = st.sampled_from((None, 0, 1, 2.5, "s", b"b", Time(1), [1, "a"], [], {"x": 1}))
PROPERTIES = st.dictionaries(st.sampled_from(("p", "q")), PLAIN, max_size=2).map(
    lambda d: tuple(sorted(d.items()))
)
OPERATIONS = st.sampled_from(("insert", "update", "upsert", "upsert", "delete"))


@st.composite
def plain_writes(draw: st.DrawFn) -> Write:
    operation = draw(OPERATIONS)
    properties = () if operation == "delete" else draw(PROPERTIES)
    return Write(operation, draw(st.sampled_from(PATHS)), properties)


@st.composite
def guarded_writes(draw: st.DrawFn, *, strategies: tuple[int, ...], times: bool = False) -> Write:
    operation = draw(st.sampled_from(("update", "upsert", "delete", "insert")))
    conditions = {
        "insert": (ZERO, NONE),
        "update": (CURRENT, CURRENT, OLD, FUTURE, NONE),
    }.get(operation, (CURRENT, CURRENT, OLD, ZERO, FUTURE, NONE))
    wanted = draw(st.sampled_from(conditions))
    by_time = times and wanted in (CURRENT, OLD, FUTURE) and draw(st.booleans())
    strategy = draw(st.sampled_from(strategies))
    return Write(
        operation,
        draw(st.sampled_from(PATHS)),
        () if operation == "delete" else draw(PROPERTIES),
        base_version=NONE if by_time else wanted,
        update_time=wanted if by_time else NONE,
        strategy=UNSET if wanted == NONE else strategy,
    )


def stories(
    writes: st.SearchStrategy[Write],
    *,
    most: int = 4,
    modes: tuple[str, ...] = ("NT", "TX", "SU"),
    once: bool = False,
) -> st.SearchStrategy[list[Step]]:
    """Up to six commits; with `once` none writes an entity twice."""
    unique = (lambda write: write.path) if once else None
    commit = st.lists(writes, min_size=1, max_size=most, unique_by=unique).map(tuple)
    return st.lists(st.builds(Step, st.sampled_from(modes), commit), min_size=1, max_size=6)


@given(st.data())
@examples(40)
def test_a_sequence_of_writes(
    beside_fs: Judge, fresh: Callable[[], Place], data: st.DataObject
) -> None:
    same_story(beside_fs, fresh(), data.draw(stories(plain_writes())), PATHS)


@given(st.data())
@examples(25)
def test_a_sequence_of_writes_beside_the_datastore_emulator(
    beside_lf: Judge, fresh: Callable[[], Place], data: st.DataObject
) -> None:
    same_story(beside_lf, fresh(), data.draw(stories(plain_writes())), PATHS)


@given(st.data())
@examples(40)
def test_a_condition_that_fails_stops_the_commit(
    beside_fs: Judge, fresh: Callable[[], Place], data: st.DataObject
) -> None:
    writes = guarded_writes(strategies=(FAIL,), times=True)
    same_story(beside_fs, fresh(), data.draw(stories(writes, once=True)), PATHS)


@given(st.data())
@examples(40)
def test_a_condition_that_fails_drops_the_write_or_the_commit(
    beside_lf: Judge, fresh: Callable[[], Place], data: st.DataObject
) -> None:
    writes = guarded_writes(strategies=(FAIL, SERVER_VALUE, UNSET))
    same_story(beside_lf, fresh(), data.draw(stories(writes, once=True)), PATHS)


TRANSFORMED = ("p", "q", "n.x")
NUMBERS = st.sampled_from((0, 1, -5, 2**63 - 1, -(2**63), 1.5, -0.0, float("nan"), float("inf")))
ELEMENTS = st.lists(st.sampled_from((None, 1, 1.0, "a", float("nan"), 0.0, -0.0, True)), max_size=3)


@st.composite
def transforms(draw: st.DrawFn) -> Any:
    transform = PropertyTransform(property=draw(st.sampled_from(TRANSFORMED)))
    what = draw(
        st.sampled_from(
            ("increment", "maximum", "minimum", "append_missing_elements", "remove_all_from_array")
        )
    )
    if what in ("increment", "maximum", "minimum"):
        getattr(transform, what).CopyFrom(value(draw(NUMBERS)))
    else:
        getattr(transform, what).SetInParent()
        getattr(transform, what).values.extend(value(e) for e in draw(ELEMENTS))
    return transform


NESTED = st.one_of(
    NUMBERS, ELEMENTS, PLAIN, st.fixed_dictionaries({"x": NUMBERS}), st.just({"y": 1})
)


@st.composite
def masked_writes(draw: st.DrawFn) -> Write:
    operation = draw(st.sampled_from(("update", "upsert", "upsert")))
    properties = draw(st.dictionaries(st.sampled_from(("p", "q", "n")), NESTED, max_size=3))
    mask = draw(
        st.one_of(
            st.none(),
            st.lists(st.sampled_from(("p", "q", "n", "n.x", "n.y")), max_size=2, unique=True),
        )
    )
    changes = draw(st.lists(transforms(), max_size=2))
    return Write(
        operation,
        draw(st.sampled_from(PATHS[:2])),
        tuple(sorted(properties.items())),
        mask=None if mask is None else tuple(mask),
        transforms=tuple(changes),
    )


@given(st.data())
@examples(50)
def test_masks_and_transforms(
    beside_fs: Judge, fresh: Callable[[], Place], data: st.DataObject
) -> None:
    same_story(beside_fs, fresh(), data.draw(stories(masked_writes(), most=2)), PATHS[:2])


def test_a_mask_of_missing_properties(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    """It removes properties, and creates no entities along the path."""
    olds: tuple[Any, ...] = (None, {}, {"n": 5}, {"n": {"x": 0}}, {"n": {"y": 0}}, {"n": [1]})
    news: tuple[Any, ...] = ({}, {"n": {"x": 1}}, {"n": {}}, {"n": 7}, {"n": {"y": {"z": 1}}})
    for stored in olds:
        for new in news:
            for mask in ("n.y", "n.y.w"):
                before = Write("delete", PATHS[0])
                if stored is not None:
                    before = Write("upsert", PATHS[0], tuple(stored.items()))
                masked = Write("upsert", PATHS[0], tuple(new.items()), mask=(mask,))
                steps = [Step("NT", (before,)), Step("NT", (masked,))]
                same_story(beside_fs, fresh(), steps, PATHS[:1])


def test_a_bad_write_in_the_middle(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    """Without a transaction, the writes before it are done and those after it are not."""
    paths = tuple(("A", i) for i in range(1, 6))
    good = [Write("upsert", path, (("p", 1),)) for path in paths]
    for mode in ("NT", "TX", "SU"):
        for bad in (
            Write("update", ("A", 99), (("p", 1),)),
            Write("insert", ("A", 1), (("p", 2),)),
            Write("upsert", ("A", 1), (("p", 2),), base_version=FUTURE, strategy=FAIL),
            Write("delete", ("A", 1), base_version=OLD, strategy=FAIL),
            Write("upsert", ("A", None), (("p", "x" * 1501),)),
            Write("upsert", ("A", 5), (("__p__", 1),)),
            Write("upsert", ("__A__", 5), (("p", 1),)),
            Write("update", ("A", None), (("p", 1),)),
            Write("delete", ("A", None)),
            Write("upsert", ("A", 5), (("", 1),)),
        ):
            steps = [
                Step("NT", (Write("upsert", ("A", 1), (("p", 0),)),)),
                Step(mode, (*good[1:3], bad, *good[3:])),
            ]
            same_story(beside_fs, fresh(), steps, paths)


def test_writing_the_same_entity_again_changes_no_version(
    beside_fs: Judge, fresh: Callable[[], Place]
) -> None:
    write = Write("upsert", PATHS[0], (("p", 1), ("q", "é")))
    other = Write("upsert", PATHS[0], (("p", 1.0), ("q", "é")))
    for mode in ("NT", "TX", "SU"):
        steps = [Step(mode, (w,)) for w in (write, write, other, other, write)]
        steps += [
            Step(mode, (Write("delete", PATHS[0]),)),
            Step(mode, (Write("delete", PATHS[0]),)),
            Step(mode, (write,)),
        ]
        same_story(beside_fs, fresh(), steps, PATHS)


def _conditions(*, times: bool) -> list[Write]:
    """Every write of one entity with every condition."""
    return [
        Write(
            operation, PATHS[0], () if operation == "delete" else (("p", 3),),
            base_version=NONE if by_time else wanted, update_time=wanted if by_time else NONE,
        )
        for operation in ("insert", "update", "upsert", "delete")
        for wanted in (CURRENT, OLD, ZERO, FUTURE)
        for by_time in ((False, True) if times else (False,))
        if not (by_time and wanted == ZERO)
    ]  # fmt: skip


def _before(exists: bool) -> list[Step]:
    written = [Step("NT", (Write("upsert", PATHS[0], (("p", n),)),)) for n in (1, 2)]
    return written if exists else [*written, Step("NT", (Write("delete", PATHS[0]),))]


@pytest.mark.chaos
def test_every_condition_whose_failure_fails_the_commit(
    beside_fs: Judge, fresh: Callable[[], Place]
) -> None:
    for exists in (True, False):
        for write in _conditions(times=True):
            for mode in ("NT", "SU"):
                step = Step(mode, (replace(write, strategy=FAIL),))
                same_story(beside_fs, fresh(), [*_before(exists), step], PATHS)


@pytest.mark.chaos
def test_every_condition_whose_failure_drops_the_write(
    beside_lf: Judge, fresh: Callable[[], Place]
) -> None:
    for exists in (True, False):
        for write in _conditions(times=False):
            for strategy in (UNSET, SERVER_VALUE, FAIL):
                step = Step("SU", (replace(write, strategy=strategy),))
                same_story(beside_lf, fresh(), [*_before(exists), step], PATHS)


def test_two_writes_of_one_entity_with_conditions(
    beside_fs: Judge, fresh: Callable[[], Place]
) -> None:
    """Both must have the same condition, which applies to what was stored before the commit."""
    first = Write("upsert", PATHS[0], (("p", 3),))
    second = Write("upsert", PATHS[0], (("p", 4),))
    for one, other in itertools.product((NONE, CURRENT, OLD), repeat=2):
        step = Step(
            "SU",
            (
                replace(first, base_version=one, strategy=UNSET if one == NONE else FAIL),
                replace(second, base_version=other, strategy=UNSET if other == NONE else FAIL),
            ),
        )
        for exists in (True, False):
            same_story(beside_fs, fresh(), [*_before(exists), step], PATHS)
