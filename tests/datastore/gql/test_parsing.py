"""Text to conditions, and back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.core.errors import UsageError
from bulkup.datastore.gql.conditions import Comparison, Condition, Junction, KeyLiteral, comparisons
from bulkup.datastore.gql.filters import Place, condition_of, write_filter
from bulkup.datastore.gql.parsing import parse_condition, parse_key
from bulkup.datastore.gql.text import condition_text, key_text
from bulkup.datastore.messages import QueryPb
from tests.datastore.gql.conditions import CONDITIONS, KEYS, NEARLY
from tests.examples import examples

A, B, C = (Comparison(name, "=", 1) for name in "abc")
HERE = Place("p", "d", "n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age > 30", Comparison("age", ">", 30)),
        ("age>=-30", Comparison("age", ">=", -30)),
        ("30 < age", Comparison("age", ">", 30)),
        ("rate < 2.5", Comparison("rate", "<", 2.5)),
        ("rate = 1e3", Comparison("rate", "=", 1000.0)),
        ("rate = .5", Comparison("rate", "=", 0.5)),
        ("done = true", Comparison("done", "=", True)),
        ("done != False", Comparison("done", "!=", False)),
        ("x = NULL", Comparison("x", "=", None)),
        ("x IS NULL", Comparison("x", "=", None)),
        ("name = 'Joe''s'", Comparison("name", "=", "Joe's")),
        (r"name = 'Joe\'s'", Comparison("name", "=", "Joe's")),
        ('name = "say ""x"" \\n"', Comparison("name", "=", 'say "x" \n')),
        ("`a b` = ''", Comparison("a b", "=", "")),
        ("`a``b` = 1", Comparison("a`b", "=", 1)),
        ("a.b = 1", Comparison("a.b", "=", 1)),
        ("a.`b c`.d = 1", Comparison("a.b c.d", "=", 1)),
        (r"""a = 'x""y\%'""", Comparison("a", "=", 'x""y\\%')),
        ("a IN ARRAY(1, 'x')", Comparison("a", "IN", (1, "x"))),
        ("a in (1)", Comparison("a", "IN", (1,))),
        ("a NOT IN (NULL)", Comparison("a", "NOT IN", (None,))),
        ("tags CONTAINS 'x'", Comparison("tags", "=", "x")),
        ("'x' IN tags", Comparison("tags", "=", "x")),
        ("blob = BLOB('aGk')", Comparison("blob", "=", b"hi")),
        ("blob = BLOB('_-8=')", Comparison("blob", "=", b"\xff\xef")),
        (
            "t < DATETIME('2013-09-29T09:30:20.00002-08:00')",
            Comparison("t", "<", datetime(2013, 9, 29, 17, 30, 20, 20, timezone.utc)),
        ),
        ("__key__ = KEY(A, 5)", Comparison("__key__", "=", KeyLiteral((("A", 5),)))),
        (
            "__key__ HAS ANCESTOR key(PROJECT('p'), DATABASE('d'), NAMESPACE(''), `A`, 'x', B, -5)",
            Comparison(
                "__key__", "HAS ANCESTOR", KeyLiteral((("A", "x"), ("B", -5)), "p", "", "d")
            ),
        ),
        (
            "KEY(A, 5) HAS DESCENDANT __key__",
            Comparison("__key__", "HAS ANCESTOR", KeyLiteral((("A", 5),))),
        ),
        ("key = 1 AND a = 1", Junction("AND", (Comparison("key", "=", 1), A))),
        ("in = 1", Comparison("in", "=", 1)),
        ("android = 1", Comparison("android", "=", 1)),
        ("a = 1 AND b = 1 OR c = 1", Junction("OR", (Junction("AND", (A, B)), C))),
        ("a = 1 AND (b = 1 OR c = 1)", Junction("AND", (A, Junction("OR", (B, C))))),
        ("(a = 1 and (b = 1 and c = 1))", Junction("AND", (A, B, C))),
        ("(" * 5000 + "a = 1" + ")" * 5000, A),
    ],
)  # fmt: skip
def test_what_may_be_written(text: str, expected: Condition) -> None:
    assert parse_condition(text) == expected
    assert parse_condition(condition_text(expected)) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the condition is empty"),
        ("age", "at its end: expected an operator (=, "),
        ("age >", "at its end: expected a value (5, "),
        ("> 5", "at character 1 ('> 5'): expected a property"),
        ("status = open", "at character 10 ('open'): expected a value"),
        ("status = open", "; quote strings: 'open'"),
        ("age == 5", "at character 6 ('= 5'): expected a value"),
        ("age == 5", "write = once"),
        ("a LIKE 'b%'", "; there is no LIKE"),
        ("a LIKE 'b%'", "at character 3 (\"LIKE 'b%'\"): expected an operator"),
        ("a = 5 b = 6", "at character 7 ('b = 6'): expected AND, OR or the end"),
        ("a = 5)", "at character 6 (')'): expected AND, OR or the end"),
        ("(a = 5", "at its end: expected AND, OR or )"),
        ("a = 5; DELETE", "at character 6 ('; DELETE'): expected AND, OR or the end"),
        ("a = 'x", "at character 5 (\"'x\"): the closing ' is missing"),
        ("a = @p", "there are no bindings"),
        (r"a = 'x\u0041'", r"at character 7 ("),
        (r"a = 'x\u0041'", "there is no such escape; write a backslash as \\\\"),
        ("a = 1 AND NOT b = 2", "expected an operator"),
        ("a = 1 AND NOT b = 2", "; a condition cannot be negated: turn the comparison round"),
        ("NOT (a = 1)", "cannot be negated"),
        ("WHERE a > 5", "; leave out WHERE"),
        ("where a > 5", "; leave out WHERE"),
        ("SELECT * FROM Person", "; write the kind as --kind Person"),
        ("select * from P where a > 5", "--kind P, and the condition alone: 'a > 5'"),
        ("t > 2026-01-31", "; write DATETIME('2026-01-31T00:00:00Z')"),
        ("t > 2026-01-31T09:30:00Z", "; write DATETIME('2026-01-31T09:30:00Z')"),
        ("t > 2026-01-31 09:30", "; write DATETIME('2026-01-31T09:30:00Z')"),
        ("a = DATETIME(2026-01-31)", "; write DATETIME('2026-01-31T00:00:00Z')"),
        ("name == 'Ada'", "; write = once"),
        ("a <> 5", "; write !="),
        ("a > 5 && b = 1", "; write AND"),
        ("a > 5 || b = 1", "; write OR"),
        ("!a = 5", "write != or NOT IN"),
        ("a IS NOT NULL", "; write != NULL"),
        ("a BETWEEN 1 AND 5", "write a >= 1 AND a <= 5"),
        ("a > 5 ORDER BY a", "without ORDER BY"),
        ("a > 5 LIMIT 3", "without LIMIT"),
        ("a IN 5", "expected ( or ARRAY"),
        ("a IN ()", "expected a value"),
        ("a IN ARRAY()", "IN needs at least one value"),
        ("a = ARRAY(1)", "expected a value (5, 2.5, 'text', TRUE, NULL, KEY(...), DATETIME("),
        ("a = ARRAY(1)", "; an array goes with IN and NOT IN"),
        ("a IN ARRAY(1, ARRAY(2))", "expected a value"),
        ("a = 9223372036854775808", "the number has more than 64 bits"),
        ("a = " + "9" * 9999, "the number has more than 64 bits"),
        ("a = 1e999", "the number is too large for 64 bits"),
        ("a = DATETIME('2026-01-01')", "a time is written like 2026-11-28T09:00:00.5Z"),
        ("a = DATETIME('2026-13-01T00:00:00Z')", "a time is written like"),
        ("a = DATETIME('0001-01-01T00:00:00+05:00')", "a time is written like"),
        ("a = BLOB('!')", "a BLOB is written in web-safe base64"),
        ("a = BLOB('/+8=')", "a BLOB is written in web-safe base64"),
        ("a = KEY(A)", "at character 10 (')'): expected a comma"),
        ("a = KEY(A, 0)", "an id of a key is not 0"),
        ("a = KEY(A, '')", "a name is not empty"),
        ("a = KEY('', 5)", "a kind of the key is empty"),
        ("a HAS ANCESTOR KEY(A, 5)", "only __key__ has an ancestor"),
        ("__key__ > 5", "__key__ is compared with keys: KEY(Customer, 5)"),
        ("a = '\udcff'", "at character 6 (\"\\udcff'\"): there is a character that UTF-8 cannot"),
        ("a = 1 AND (b = 1 OR (" * 5000 + "a = 1" + "))" * 5000, "more than 20 ANDs and ORs in"),
        ("a = 1 AND (b = 1 OR " * 11 + "a = 1" + ")" * 11, "more than 20 ANDs and ORs inside"),
    ],
)  # fmt: skip
def test_what_is_wrong_and_where(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_condition(text)
    message = caught.value.message
    assert says in message
    assert message.isprintable()
    assert len(message) < 300


@given(CONDITIONS)
def test_a_condition_survives_its_text(condition: Condition) -> None:
    assert parse_condition(condition_text(condition)) == condition


@given(CONDITIONS)
def test_a_condition_survives_its_message(condition: Condition) -> None:
    query = QueryPb()
    write_filter(query.filter, condition, HERE)
    there = condition_of(query.filter, HERE)
    assert there is not None
    assert _resolved(there) == _resolved(condition)
    again = QueryPb()
    write_filter(again.filter, parse_condition(condition_text(there)), HERE)
    assert again == query


def _resolved(condition: Condition) -> Any:
    """With the partition of each key written out: the same key may be written in two ways."""
    if isinstance(condition, Junction):
        return condition.operator, tuple(map(_resolved, condition.parts))
    is_array = isinstance(condition.value, tuple)
    values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    return condition.name, condition.operator, is_array, tuple(map(_place, values))


def _place(value: Any) -> Any:
    if not isinstance(value, KeyLiteral):
        return type(value) in (int, float, bool) and type(value), value
    namespace = HERE.namespace if value.namespace is None else value.namespace
    database = HERE.database if value.database is None else value.database
    return value.path, value.project or HERE.project, namespace, database


@examples(500)
@given(st.text() | NEARLY)
def test_any_text_is_a_condition_or_one_sentence(text: str) -> None:
    found = _or_message(parse_condition, text)
    if isinstance(found, str):
        assert found.isprintable(), found
        assert found.startswith("the condition ")
    else:
        assert list(comparisons(found))
        assert parse_condition(condition_text(found)) == found
        write_filter(QueryPb().filter, found, HERE)


def _or_message(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except UsageError as error:
        return error.message


@given(KEYS)
def test_a_key_survives_its_text(key: KeyLiteral) -> None:
    assert parse_key(key_text(key)) == key


@examples(300)
@given(st.text() | NEARLY)
def test_any_text_is_a_key_or_one_sentence(text: str) -> None:
    found = _or_message(parse_key, text)
    assert found.isprintable() if isinstance(found, str) else found.path


def test_a_key_as_bulkup_prints_it() -> None:
    assert parse_key("Key('A b', 5, 'C', 'x', namespace='n')") == KeyLiteral(
        (("A b", 5), ("C", "x")), namespace="n"
    )
    assert parse_key("Key('A', 5)") == KeyLiteral((("A", 5),))
    for text, says in (("Key('A')", "expected a comma"), ("Key('A', 0)", "is not 0"), ("5", "KEY")):
        with pytest.raises(UsageError, match=says):
            parse_key(text)
