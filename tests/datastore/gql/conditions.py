"""Conditions of every shape, and texts that look like conditions."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from hypothesis import strategies as st

from bulkup.datastore.gql.conditions import (
    KEY_PROPERTY,
    Comparison,
    Condition,
    KeyLiteral,
    joined,
)

_COMPARING = ("=", "!=", "<", "<=", ">", ">=")
_LISTING = ("IN", "NOT IN")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = TEXT.filter(lambda name: name not in ("", KEY_PROPERTY)) | st.sampled_from(
    ["age", "in", "NOT", "key", "a.b", "`", "\\", "'", "größe", "true", "_", "$x"]
)
INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)
KEYS = st.builds(
    KeyLiteral,
    st.lists(
        st.tuples(TEXT.filter(bool), INTEGERS.filter(bool) | TEXT.filter(bool)),
        min_size=1,
        max_size=3,
    ).map(tuple),
    st.none() | TEXT.filter(bool),
    st.none() | TEXT,
    st.none() | TEXT,
)
LITERALS: st.SearchStrategy[Any] = st.one_of(
    INTEGERS,
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
    st.booleans(),
    st.none(),
    st.binary(max_size=8),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(timezone.utc)),
    KEYS,
)
ARRAYS = st.lists(LITERALS, min_size=1, max_size=3).map(tuple)
COMPARISONS = st.one_of(
    st.builds(Comparison, NAMES, st.sampled_from(_COMPARING), LITERALS),
    st.builds(Comparison, NAMES, st.sampled_from(_LISTING), ARRAYS),
    st.builds(Comparison, st.just(KEY_PROPERTY), st.sampled_from(_COMPARING), KEYS),
    st.builds(Comparison, st.just(KEY_PROPERTY), st.just("HAS ANCESTOR"), KEYS),
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    COMPARISONS,
    lambda inner: st.builds(
        joined, st.sampled_from(["AND", "OR"]), st.lists(inner, min_size=2, max_size=3).map(tuple)
    ),
    max_leaves=8,
)

_WORDS = (
    "age", "`a b`", "__key__", "=", "!=", "<", "<=", ">", ">=", "IN", "NOT", "AND", "OR", "HAS",
    "ANCESTOR", "DESCENDANT", "CONTAINS", "IS", "NULL", "TRUE", "(", ")", ",", "5", "-5", "2.5",
    "1e3", "'x'", '"y"', "'", '"', "`", "KEY(", "KEY(A, 5)", "PROJECT(", "NAMESPACE('n')",
    "DATETIME('2026-01-01T00:00:00Z')", "DATETIME(", "BLOB('aGk=')", "ARRAY(", "ARRAY(1, 2)", "\\",
    "@a", "like", "é", "\x00", ";", "--",
)  # fmt: skip
NEARLY = st.lists(st.sampled_from(_WORDS), max_size=10).map(" ".join)
