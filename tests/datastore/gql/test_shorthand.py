"""The conditions of `bulkup diff` and `bulkup rewind`."""

from __future__ import annotations

from typing import Any

import pytest

from bulkup.core.errors import UsageError
from bulkup.datastore.gql.shorthand import equalities


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("status=open", [("status", "EQUAL", "open")]),
        ("status = 'open'", [("status", "EQUAL", "open")]),
        ("name=Ada Lovelace, née Byron", [("name", "EQUAL", "Ada Lovelace, née Byron")]),
        ("n=5", [("n", "EQUAL", 5)]),
        ('n="5"', [("n", "EQUAL", "5")]),
        ('n="\\u00e9"', [("n", "EQUAL", "é")]),
        ("n=2.5", [("n", "EQUAL", 2.5)]),
        ("n=null", [("n", "EQUAL", None)]),
        ("done=true", [("done", "EQUAL", True)]),
        ("a-b=1", [("a-b", "EQUAL", 1)]),
        ("a=b=c", [("a", "EQUAL", "b=c")]),
        ("a = 1 AND b IN ('x', 'y')", [("a", "EQUAL", 1), ("b", "IN", ["x", "y"])]),
    ],
)
def test_what_may_be_written(text: str, filters: list[Any]) -> None:
    assert list(equalities(text)) == filters


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a > 1", "--where a > 1: both sides are read in the order of keys"),
        ("a = 1 OR b = 1", "joined with AND, without keys"),
        ("a = KEY(A, 1)", "without keys"),
        ("a", "at its end: expected an operator"),
        ("=5", "expected a property"),
        ("a==5", "write = once"),
        ("n=[1]", "--where n: [1] is not a single value"),
        ("n=99999999999999999999", "--where n: 99999999999999999999 has more than 64 bits"),
    ],
)
def test_what_may_not(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        list(equalities(text))
    assert says in caught.value.message
