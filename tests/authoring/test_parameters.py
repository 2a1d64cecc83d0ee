"""Parameters: which there are, and values from text and back."""

# ruff: noqa: UP007, UP045  (users write Optional and Union too)
from __future__ import annotations

import enum
import functools
import math
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import bulkup
from bulkup import Updater, param
from bulkup.authoring.conversion import UnsupportedTypeError, value_type
from bulkup.authoring.param import MISSING
from bulkup.authoring.parameters import (
    Parameter,
    convert,
    parameters_of,
    parse_assignments,
    to_text,
)
from bulkup.core.errors import Exit, ParameterError

if typing.TYPE_CHECKING:
    from decimal import Decimal as OnlyForTheTypeChecker


class Color(enum.Enum):
    RED = "crimson"
    GREEN = 2
    none = "nothing"


class Size(str, enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Bits(enum.Flag):
    A = 1
    B = 2


ODD: Any = enum.Enum("ODD", {"@none": 1, "a b": 2})


@dataclass(frozen=True)
class Source:
    """What `convert` needs of an updater."""

    name: str
    parameters: tuple[Parameter, ...]


def source(function: Callable[..., Any]) -> Source:
    return Source(getattr(function, "__name__", ""), parameters_of(function))


def one(annotation: Any, **default: Any) -> Source:
    """An updater with one parameter `x` of a type."""
    function: Any = lambda entity, *, x: None  # noqa: E731
    function.__kwdefaults__ = {"x": default["default"]} if default else None
    if annotation is not MISSING:
        function.__annotations__ = {"x": annotation}
    function.__name__ = "fix"
    return source(function)


def converted(annotation: Any, value: Any) -> Any:
    return convert(one(annotation), {"x": value})["x"]


def refused(annotation: Any, value: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        converted(annotation, value)
    assert caught.value.exit_code == Exit.USAGE
    assert caught.value.message.isprintable()
    return caught.value.message


UTC = timezone.utc


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (int, "42", 42),
        (int, " -7 ", -7),
        (float, "0.5", 0.5),
        (float, "3", 3.0),
        (bool, "true", True),
        (bool, "YES", True),
        (bool, "1", True),
        (bool, "on", True),
        (bool, "False", False),
        (bool, "no", False),
        (bool, "0", False),
        (bool, "off", False),
        (str, "", ""),
        (str, " a=b ", " a=b "),
        (str, "none", "none"),
        (str, "@@none", "@none"),
        (date, "2024-02-29", date(2024, 2, 29)),
        (datetime, "2024-01-31", datetime(2024, 1, 31, tzinfo=UTC)),
        (datetime, "2024-01-31T12:30", datetime(2024, 1, 31, 12, 30, tzinfo=UTC)),
        (datetime, "2024-01-31 12:30:01.5Z", datetime(2024, 1, 31, 12, 30, 1, 500_000, UTC)),
        (datetime, "2024-01-31T12:30:00+02:00", datetime(2024, 1, 31, 10, 30, tzinfo=UTC)),
        (Color, "RED", Color.RED),
        (Color, "crimson", Color.RED),
        (Color, "green", Color.GREEN),
        (Color, "2", Color.GREEN),
        (Size, "s", Size.SMALL),
        (Size, "LARGE", Size.LARGE),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], "2", 2),
        (Literal["a", None], "none", None),
        (Optional[int], "none", None),
        (Optional[int], "5", 5),
        (int | None, "@none", None),
        (Optional[date], "NONE", None),
        (Optional[str], "none", "none"),
        (Optional[str], "", ""),
        (Optional[str], "@none", None),
        (Optional[Color], "none", Color.none),
        (Optional[Color], "@none", None),
        (Optional[Size], "none", None),
        (list[str], "a, b", ["a", "b"]),
        (list[str], "[]", []),
        (Optional[Literal["", "a"]], "", ""),
        (list[str], '["a,b", " c"]', ["a,b", " c"]),
        (list[int], "1,2", [1, 2]),
        (list[int], "[1, 2]", [1, 2]),
        (list[bool], "[true, false]", [True, False]),
        (list[Color], "RED,2", [Color.RED, Color.GREEN]),
        (list, "a", ["a"]),
        (Optional[list[int]], "none", None),
        (Optional[list[int]], "1", [1]),
        (typing.Annotated[int, "how many"], "3", 3),
        (typing.NewType("Count", int), "3", 3),
        ("int", "3", 3),
        ("Optional[date]", "2024-01-31", date(2024, 1, 31)),
    ],
)
def test_strings_are_converted_by_the_annotation(annotation: Any, text: str, value: Any) -> None:
    result = converted(annotation, text)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("annotation", "text", "says"),
    [
        (int, "1.5", "such as 42"),
        (int, "", "such as 42"),
        (int, " ", "such as 42; is a variable of your shell not set?"),
        (Optional[date], "", "2024-01-31, or none; is a variable of your shell not set?"),
        (Optional[int], "", "42, or none"),
        (Optional[Color], "", ", or none"),
        (Optional[list[int]], "", ", or none"),
        (list[str], "", "[]: none of them"),
        (list[int], " ", "[]: none of them"),
        pytest.param(int, "9" * 5000, "such as 42", id="more digits than Python reads"),
        (float, "much", "such as 0.5"),
        (bool, "maybe", "true or false"),
        (bool, "", "true or false"),
        (str, "@none", "any string (@@none is the string @none)"),
        (str, "\ud800", "is not a valid string"),
        (date, "31.1.2024", "such as 2024-01-31"),
        (date, "20240131", "such as 2024-01-31"),
        (date, "2024-02-30", "such as 2024-01-31"),
        (date, "2024-01-31T00:00", "such as 2024-01-31"),
        (datetime, "yesterday", "in UTC when no offset"),
        (datetime, "2024-01-31T25:00", "in UTC when no offset"),
        (datetime, "0001-01-01T00:00+10:00", "in UTC when no offset"),
        (Color, "blue", "one of RED, GREEN, none"),
        (Literal["a", "b"], "c", "one of a, b"),
        (Optional[int], "nothing", "or none"),
        (list[int], "1,,2", "comma-separated"),
        (list[int], "[1", "comma-separated"),
        (list[int], '[{"a": 1}]', "comma-separated"),
        pytest.param(list[str], "[" * 100_000, "comma-separated", id="deep JSON"),
    ],
)
def test_an_invalid_string_is_refused_with_an_example(
    annotation: Any, text: str, says: str
) -> None:
    message = refused(annotation, text)
    assert says in message
    assert "parameter 'x' takes" in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("annotation", "given", "value"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (bool, False, False),
        (date, date(2024, 1, 31), date(2024, 1, 31)),
        (datetime, datetime(2024, 1, 31), datetime(2024, 1, 31, tzinfo=UTC)),
        (datetime, datetime(2024, 1, 31, 2, tzinfo=timezone(timedelta(hours=2))),
         datetime(2024, 1, 31, tzinfo=UTC)),
        (Color, Color.RED, Color.RED),
        (Bits, Bits.A, Bits.A),
        (Literal[1, "a"], 1, 1),
        (Optional[int], None, None),
        (Optional[str], None, None),
        (list[int], (1, 2), [1, 2]),
    ],
)  # fmt: skip
def test_typed_values_from_python_are_kept(annotation: Any, given: Any, value: Any) -> None:
    result = converted(annotation, given)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        (int, True),
        (int, 1.0),
        (int, None),
        pytest.param(int, 10**5000, id="more digits than Python prints"),
        (float, True),
        pytest.param(float, 10**400, id="more than a float holds"),
        (bool, 1),
        (str, 5),
        (str, b"bytes"),
        (date, datetime(2024, 1, 31)),
        (datetime, date(2024, 1, 31)),
        (Color, "nope"),
        (Color, Size.SMALL),
        (Bits, Bits.A | Bits.B),
        (Literal[1], True),
        (list[int], [1, "2"]),
        (list[int], {1}),
        (list[int], 1),
    ],
)
def test_values_of_another_type_are_refused(annotation: Any, given: Any) -> None:
    assert "'x' takes" in refused(annotation, given)


def test_a_value_that_cannot_even_be_shown_is_refused_in_one_sentence() -> None:
    class Angry:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "a Angry" in refused(int, Angry())


@pytest.mark.parametrize(
    "annotation",
    [
        dict,
        bytes,
        object,
        Any,
        Union[int, str],
        int | str | None,
        tuple[int, ...],
        set[str],
        list[list[int]],
        list[Optional[int]],
        Literal[1, "1"],
        Literal[b"x"],
        Literal[None],
        Callable[[], int],
        enum.Enum,
        timedelta,
        None,
        "dict[str, int]",
    ],
)
def test_an_unsupported_type_is_named_with_what_is_supported(annotation: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        one(annotation)
    assert "parameter 'x' of fix has the unsupported type" in caught.value.message
    assert "date, datetime, an Enum" in caught.value.message


def test_an_annotation_that_cannot_be_resolved_is_named() -> None:
    def fix(entity: Any, *, x: OnlyForTheTypeChecker) -> None: ...

    with pytest.raises(ParameterError, match=r"OnlyForTheTypeChecker.*'x' of fix.*TYPE_CHECKING"):
        parameters_of(fix)


def test_a_partial_of_a_function_has_the_parameters_of_the_function() -> None:
    def fix(entity: Any, *, day: date, color: Color = Color.RED) -> None: ...

    found = parameters_of(functools.partial(fix, color=Color.GREEN))
    assert [(p.name, p.type, p.required) for p in found] == [
        ("day", "date", True),
        ("color", "RED | GREEN | none", False),
    ]
    assert found[1].default is Color.GREEN


def test_only_the_annotations_of_parameters_are_resolved() -> None:
    def fix(entity: OnlyForTheTypeChecker, *, x: int = 1) -> OnlyForTheTypeChecker | None: ...

    class Fix(Updater):
        other: OnlyForTheTypeChecker
        x: int = param(1)

    assert [p.type for p in parameters_of(fix)] == ["int"]
    assert [p.type for p in parameters_of(Fix)] == ["int"]


@pytest.mark.parametrize(
    ("default", "type_", "text", "value"),
    [
        (1, "int", "2", 2),
        (True, "bool", "no", False),
        (0.5, "float", "2", 2.0),
        ("a", "str", "2", "2"),
        (None, "str | None", "2", "2"),
        (date(2024, 1, 31), "date", "2024-02-01", date(2024, 2, 1)),
        (Color.RED, "RED | GREEN | none", "GREEN", Color.GREEN),
        ([], "list of str", "2", ["2"]),
        ([1], "list of int", "2", [2]),
        ((1, 2), "list of int", "2", [2]),
    ],
)
def test_without_an_annotation_the_default_determines_the_type(
    default: Any, type_: str, text: str, value: Any
) -> None:
    fix = one(MISSING, default=default)
    assert fix.parameters[0].type == type_
    assert convert(fix, {"x": text}) == {"x": value}


def test_without_annotation_and_default_the_type_is_str() -> None:
    assert one(MISSING).parameters[0].type == "str"
    assert one(MISSING).parameters[0].required


def test_a_default_of_none_makes_the_type_optional() -> None:
    fix = one(int, default=None)
    assert fix.parameters[0].type == "int | None"
    assert convert(fix, {}) == {"x": None}
    assert one("int", default=None).parameters[0].type == "int | None"


def test_a_default_is_converted_to_its_type_or_refused() -> None:
    assert convert(one(date, default="2024-01-31"), {}) == {"x": date(2024, 1, 31)}
    assert convert(one(float, default=1), {}) == {"x": 1.0}
    assert convert(one(str, default="@none"), {}) == {"x": "@none"}
    assert convert(one(str, default="@@none"), {}) == {"x": "@@none"}
    with pytest.raises(ParameterError, match=r"default soon of parameter 'x' of fix.*date"):
        one(date, default="soon")
    with pytest.raises(ParameterError, match="is not of its type int"):
        one(int, default=1.5)
    with pytest.raises(ParameterError, match="has the unsupported type dict"):
        one(MISSING, default={})


def test_help_comes_from_param_or_from_annotated() -> None:
    class Fix(Updater):
        a: int = param(1, help="how many")
        b: typing.Annotated[int, "how much"] = param(2)

    assert [p.help for p in parameters_of(Fix)] == ["how many", "how much"]
    assert one(typing.Annotated[int, object(), "how far"]).parameters[0].help == "how far"


def test_a_subclass_inherits_overrides_and_fixes_parameters() -> None:
    class Base(Updater):
        a: int = param(1)
        b: date = param()
        c: str = param("c")

    class Fix(Base):
        c = "fixed"
        b = param("2024-01-31")
        d: bool = param(False)

    found = {p.name: p for p in parameters_of(Fix)}
    assert list(found) == ["a", "b", "d"]
    assert found["b"].default == date(2024, 1, 31)
    assert not found["b"].required
    assert [p.name for p in parameters_of(Base) if p.required] == ["b"]


@pytest.mark.parametrize("name", ["client", "put", "get_query", "_sink"])
def test_a_parameter_must_not_replace_an_attribute_of_every_updater(name: str) -> None:
    cls = type("Fix", (Updater,), {name: param(1)})
    with pytest.raises(ParameterError, match=repr(name)):
        parameters_of(cls)


def test_the_failure_budget_may_be_a_parameter() -> None:
    class Fix(Updater):
        max_failures = param(5)

    assert [(p.name, p.type) for p in parameters_of(Fix)] == [("max_failures", "int")]


def test_a_missing_required_parameter_is_named_with_its_form() -> None:
    with pytest.raises(ParameterError, match=r"fix needs -p x=\.\.\. \(a date such as 2024-01-31"):
        convert(one(date), {})


def test_an_unknown_name_suggests_the_one_that_was_meant() -> None:
    @bulkup.updater(kind="A")
    def fix(entity: Any, *, separator: str = "", count: int = 1) -> None: ...

    with pytest.raises(ParameterError, match="did you mean 'separator'"):
        convert(source(fix), {"seperator": "-"})
    with pytest.raises(ParameterError, match="its parameters are: separator, count"):
        convert(source(fix), {"x\x1b": "-"})
    with pytest.raises(ParameterError, match="takes no parameters"):
        convert(Source("fix", ()), {"x": "-"})


def test_assignments() -> None:
    assert parse_assignments(["sep=-", "a=b=c", "empty="]) == {"sep": "-", "a": "b=c", "empty": ""}
    assert parse_assignments([]) == {}
    for wrong, says in (
        (["sep"], "NAME=VALUE"),
        (["=x"], "no parameter name"),
        (["a=1", "a=1"], "given twice"),
        ([""], "NAME=VALUE"),
        (["x\n" * 1000], "NAME=VALUE"),
    ):
        with pytest.raises(ParameterError, match=says) as caught:
            parse_assignments(wrong)
        assert len(caught.value.message) < 200


TEXTS = st.one_of(
    st.text(),
    st.from_regex(r"\A@{0,3}none\Z"),
    st.sampled_from(["", "none", "[", '["a"]', ",", " "]),
)
AWARE = st.datetimes(
    min_value=datetime(1, 1, 3),
    max_value=datetime(9999, 12, 29),
    timezones=st.one_of(
        st.just(UTC), st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
    ),
)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    str: TEXTS,
    date: st.dates(),
    datetime: AWARE,
    Color: st.sampled_from(Color),
    Size: st.sampled_from(Size),
    Literal["@none", "none", "a", 1, True]: st.sampled_from(["@none", "none", "a", 1, True]),
}


@st.composite
def typed_values(draw: st.DrawFn) -> tuple[Any, Any]:
    """A supported type and one of its values."""
    annotation: Any
    annotation, values = draw(st.sampled_from(list(VALUES.items())))
    if draw(st.booleans()):
        annotation, values = list.__class_getitem__(annotation), st.lists(values, max_size=4)
    if draw(st.booleans()):
        annotation, values = Optional[annotation], st.one_of(st.none(), values)
    return annotation, draw(values)


@given(typed_values())
@example((Optional[list[str]], ["none"]))
@example((list[str], ["["]))
@example((list[str], [" a"]))
@example((list[str], ["a,b", ""]))
@example((list[str], ["a", ""]))
@example((Optional[ODD], ODD["@none"]))
@example((Optional[list[str]], []))
@example((Optional[str], "@none"))
def test_every_value_survives_a_round_trip_as_a_string(typed: tuple[Any, Any]) -> None:
    annotation, value = typed
    fix = one(annotation)
    text = to_text(value)
    again = convert(fix, {"x": text})["x"]
    assert again == value
    assert type(again) is type(value)
    assert to_text(again) == text


@given(typed_values())
def test_a_value_given_from_python_is_stored_and_resumed_as_itself(typed: tuple[Any, Any]) -> None:
    annotation, value = typed
    fix = one(annotation)
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return  # a str is text, as after -p
    if isinstance(value, list) and any(isinstance(v, str) for v in value):
        assert convert(fix, {"x": value})["x"] == value
    stored = to_text(convert(fix, {"x": value})["x"])
    assert convert(fix, {"x": stored})["x"] == value


@given(st.sampled_from(list(VALUES)), st.text())
def test_any_string_is_converted_or_refused_in_one_sentence(annotation: Any, text: str) -> None:
    try:
        value = converted(annotation, text)
    except ParameterError as exc:
        assert exc.message.isprintable()  # noqa: PT017
    else:
        assert converted(annotation, to_text(value)) == value or math.isnan(value)


def test_a_changed_default_does_not_change_what_was_stored() -> None:
    stored = {k: to_text(v) for k, v in convert(one(int, default=1), {}).items()}
    assert convert(one(int, default=2), stored) == {"x": 1}
    nothing = {k: to_text(v) for k, v in convert(one(Optional[str], default=None), {}).items()}
    assert convert(one(Optional[str], default="now"), nothing) == {"x": None}


def test_nan_is_stored_too() -> None:
    assert math.isnan(converted(float, to_text(math.nan)))


def test_what_cannot_be_stored_says_so() -> None:
    for value, error in (("\ud800", ValueError), (10**5000, ValueError), ({}, TypeError)):
        with pytest.raises(error):
            to_text(value)


def test_the_default_is_shown_as_a_user_would_type_it() -> None:
    assert one(date, default=date(2024, 1, 31)).parameters[0].default_text == "2024-01-31"
    assert one(date).parameters[0].default_text == ""


def test_a_type_alias_of_newer_pythons_is_its_type() -> None:
    alias: Any = getattr(typing, "TypeAliasType", None)
    if alias is None:  # Python 3.10 and 3.11 have none
        with pytest.raises(UnsupportedTypeError):
            value_type(typing.TypeVar("T"))
        return
    assert value_type(alias("Count", int)).parse("3") == 3
