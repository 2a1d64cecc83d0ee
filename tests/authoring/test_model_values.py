"""What a handler changed in a model, in the entity: generated trees of values."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.authoring.model_values import is_same, stored, update
from tests.examples import examples

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.floats(0, 1), st.text("ab"))
NAMES = st.sampled_from(["a", "b", "c"])
TREES: Any = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.dictionaries(NAMES, inner, max_size=3),
        st.lists(st.dictionaries(NAMES, inner, max_size=2), max_size=4),
        st.lists(SCALARS, max_size=3),
    ),
    max_leaves=12,
)
VALUES = st.dictionaries(NAMES, TREES, max_size=3)
UNNAMED = "unnamed"


def with_unnamed(value: Any, numbers: Any) -> Any:
    """The same, as entities with a property that no model names, of another value in each."""
    if isinstance(value, dict):
        entity = stored({name: with_unnamed(item, numbers) for name, item in value.items()})
        entity[UNNAMED] = next(numbers)
        return entity
    return [with_unnamed(item, numbers) for item in value] if isinstance(value, list) else value


def named(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: named(item) for name, item in value.items() if name != UNNAMED}
    return [named(item) for item in value] if isinstance(value, list) else value


def unnamed(value: Any) -> list[int]:
    if isinstance(value, dict):
        own = [value[UNNAMED]] if UNNAMED in value else []
        return own + [n for item in value.values() for n in unnamed(item)]
    return [n for item in value for n in unnamed(item)] if isinstance(value, list) else []


@examples(200)
@given(before=VALUES, after=VALUES)
def test_an_entity_becomes_what_the_model_is_and_shares_out_nothing_twice(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    entity = with_unnamed(before, iter(range(1000)))
    own = entity[UNNAMED]
    update(entity, before, after)
    assert is_same(named(entity), after)
    assert entity[UNNAMED] == own
    left = unnamed(entity)
    assert len(left) == len(set(left)), "two elements have what belonged to one"


@examples(100)
@given(before=VALUES)
def test_what_has_not_changed_is_not_touched(before: dict[str, Any]) -> None:
    entity = with_unnamed(before, iter(range(1000)))
    objects = {name: id(value) for name, value in entity.items()}
    expected = copy.deepcopy(entity)
    update(entity, before, copy.deepcopy(before))
    assert entity == expected
    assert {name: id(value) for name, value in entity.items()} == objects


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (1, 1.0), (0.0, False), ({"a": 1}, {"a": 1.0}), ([], [None])]
)
def test_what_is_stored_differently_is_not_the_same(one: Any, other: Any) -> None:
    assert not is_same(one, other)
    assert is_same(one, copy.deepcopy(one))
