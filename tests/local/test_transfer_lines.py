"""An entity as a line of JSON and back: nothing is lost, and the lossless form is protobuf's."""

from __future__ import annotations

import json
import math
import struct
from time import process_time
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkup.local import messages as m
from bulkup.local import v1_json
from bulkup.local.encoding import Partition
from bulkup.local.entity_json import LineError, LossError, from_line, to_line

PLACE = Partition("p", "db", "ns")

on_a_busy_machine = settings(suppress_health_check=[HealthCheck.too_slow])
"""Nested entities take a while to draw, and how long depends on what else the machine does."""

TEXTS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        ("a" * 1500, "a" * 1501, "é" * 750, "é" * 751, "\x1b[2J\u202e\u2028\x85", "NaN")
    ),
)
INT64 = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from((2**53 - 1, 2**53, 2**53 + 1, -(2**53), 1 - 2**53, 2**63 - 1, -(2**63))),
)

DOUBLES = st.floats().map(lambda x: x if x == x else math.nan)


@st.composite
def keys(draw: st.DrawFn, place: Partition | None = None) -> Any:
    key = m.Key()
    if place is None:
        place = Partition(draw(TEXTS), draw(TEXTS), draw(TEXTS))
    within = key.partition_id
    within.project_id, within.database_id, within.namespace_id = place
    for _ in range(draw(st.integers(1, 3))):
        element = key.path.add(kind=draw(st.sampled_from(("A", "Ä", "a b"))))
        if draw(st.booleans()):
            element.id = draw(INT64.filter(bool))
        else:
            element.name = draw(TEXTS.filter(bool))
    return key


def _set(which: str) -> Any:
    def fill(value: Any, plain: Any) -> None:
        one = getattr(value, which)
        if isinstance(plain, dict):
            one.SetInParent()
            for name, part in plain.items():
                setattr(one, name, part)
        elif isinstance(plain, list):
            one.SetInParent()
            one.values.extend(plain)
        elif hasattr(one, "CopyFrom"):
            one.CopyFrom(plain)
        else:
            setattr(value, which, plain)

    return fill


def _value(which: str, plain: Any, excluded: bool, meaning: int) -> Any:
    value = m.Value()
    _set(which)(value, plain)
    value.exclude_from_indexes = excluded
    value.meaning = meaning
    return value


def _values(which: str, plain: st.SearchStrategy[Any], flags: bool) -> st.SearchStrategy[Any]:
    return st.builds(
        _value,
        st.just(which),
        plain,
        st.booleans() if flags else st.just(False),
        st.sampled_from((0, 0, 15, -1)) if flags else st.just(0),
    )


def _scalars(flags: bool) -> list[st.SearchStrategy[Any]]:
    return [
        _values("null_value", st.just(0), flags),
        _values("boolean_value", st.booleans(), flags),
        _values("integer_value", INT64, flags),
        _values("double_value", DOUBLES, flags),
        _values("string_value", TEXTS, flags),
    ]


ODD = [
    _values("blob_value", st.binary(max_size=4), True),
    _values("key_value", keys(), True),
    _values(
        "timestamp_value",
        st.fixed_dictionaries(
            {
                "seconds": st.integers(-62_135_596_800, 253_402_300_799),
                "nanos": st.integers(0, 999_999_999),
            }
        ),
        True,
    ),
    _values(
        "geo_point_value",
        st.fixed_dictionaries({"latitude": DOUBLES, "longitude": DOUBLES}),
        True,
    ),
]


def _entity(key: Any, properties: dict[str, Any]) -> Any:
    entity = m.Entity()
    if key is not None:
        entity.key.CopyFrom(key)
    for name, value in properties.items():
        entity.properties[name].CopyFrom(value)
    return entity


def _deeper(flags: bool) -> Any:
    def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        nested = st.builds(
            _entity,
            st.one_of(st.none(), keys()) if flags else st.none(),
            st.dictionaries(TEXTS, inner, max_size=2),
        )
        return st.one_of(
            _values("array_value", st.lists(inner, max_size=3), flags),
            _values("entity_value", nested, flags),
        )

    return deeper


VALUES = st.recursive(
    st.one_of(*_scalars(True), *ODD, *_scalars(False), st.just(m.Value())),
    _deeper(True),
    max_leaves=6,
)
PLAIN = st.recursive(st.one_of(_scalars(False)), _deeper(False), max_leaves=6)


def entities(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(_entity, keys(PLACE), st.dictionaries(TEXTS, values, max_size=4))


def same(one: Any, other: Any) -> bool:
    # Bytes: NaN is not equal to itself, and 0.0 is equal to -0.0.
    return bool(
        one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
    )


@on_a_busy_machine
@given(st.one_of(entities(VALUES), entities(PLAIN)), st.booleans())
def test_a_line_reads_back_as_the_same_entity(entity: Any, lossless: bool) -> None:
    line, is_lossless = to_line(entity, lossless=lossless)
    assert is_lossless or not lossless
    assert line.isprintable()  # so it is one line, without characters that control a terminal
    assert same(from_line(line.encode(), PLACE), entity)


@on_a_busy_machine
@given(entities(VALUES))
def test_the_lossless_form_is_protobuf_s_own(entity: Any) -> None:
    line, _ = to_line(entity, lossless=True)
    assert json.loads(line) == json.loads(json.dumps(json_format.MessageToDict(entity)))


JSON = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=3),
    st.sampled_from((
        " 5", "5 ", "1_0", "+1", "-0", "007", "1e3", "NaN", "Infinity", "QUI=", "QUI", "-_8=", "@",
        "2020-01-01T00:00:00Z", "2020-01-01T00:00:00+01:00", "2020-01-01",
        1.0, 2**64, 10**400, {}, [], {"values": None}, {"path": {}}, {"latitude": "1"},
        "NULL_VALUE", "\ud800",
    )),
)  # fmt: skip
NAMES = st.sampled_from(
    ("key", "properties", "path", "kind", "id", "name", "values", "meaning", "stringValue",
     "integer_value", "nullValue", "excludeFromIndexes", "latitude", "projectId", "x")
)  # fmt: skip


@st.composite
def spoiled(draw: st.DrawFn) -> Any:
    """A lossless form with one thing replaced or added."""
    form = json_format.MessageToDict(draw(entities(VALUES)))
    spots: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for at, inner in list(node.items() if isinstance(node, dict) else enumerate(node)):
            spots.append((node, at))
            if isinstance(inner, (dict, list)):
                visit(inner)

    visit(form)
    node, at = draw(st.sampled_from(spots))
    if isinstance(node, dict) and draw(st.booleans()):
        at = draw(NAMES)
    node[at] = draw(JSON)
    return form


@on_a_busy_machine
@given(spoiled())
def test_other_spellings_and_mistakes_are_handled_as_protobuf_does(form: Any) -> None:
    try:
        expected = json_format.ParseDict(form, m.Entity())
    except (json_format.Error, OverflowError, UnicodeEncodeError) as error:
        with pytest.raises(type(error)):
            v1_json.from_form(form)
        return
    except SystemError:  # of a name with half a surrogate pair
        with pytest.raises(json_format.ParseError, match="not valid UTF-8"):
            v1_json.from_form(form)
        return
    assert same(v1_json.from_form(form), expected)


def test_the_plain_form_is_what_other_programs_would_write() -> None:
    line = b'{"__key__": ["Shop", 5, "Product", "x"], "a": {"b": [1, 2.5, null]}, "t": true}'
    entity = from_line(line, PLACE)
    assert to_line(entity) == (line.decode(), False)
    assert [(e.kind, e.id or e.name) for e in entity.key.path] == [("Shop", 5), ("Product", "x")]
    assert (
        entity.properties["a"].entity_value.properties["b"].array_value.values[1].double_value
        == 2.5
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: setattr(v, "exclude_from_indexes", True),
        lambda v: setattr(v, "meaning", 15),
        lambda v: setattr(v, "integer_value", 2**53),
        lambda v: setattr(v, "double_value", float("inf")),
        lambda v: setattr(v, "blob_value", b"x"),
        lambda v: v.entity_value.key.path.add(kind="K"),
        lambda v: v.array_value.values.add().array_value.SetInParent(),
    ],
    ids=("unindexed", "meaning", "integer", "infinite", "blob", "nested key", "nested array"),
)
def test_what_plain_json_cannot_express_is_lossless(spoil: Any) -> None:
    entity = from_line(b'{"__key__": ["K", 1], "x": "text"}', PLACE)
    assert not to_line(entity)[1]
    spoil(entity.properties["x"])
    assert to_line(entity)[1]


def test_only_strings_too_long_for_an_index_are_loaded_unindexed() -> None:
    line = json.dumps({"a": "é" * 750, "b": "é" * 751, "c": ["x" * 1501, "x"]}).encode()
    read = from_line(line, PLACE, kind="K").properties
    assert not read["a"].exclude_from_indexes
    assert read["b"].exclude_from_indexes
    assert [v.exclude_from_indexes for v in read["c"].array_value.values] == [True, False]


def test_every_nan_is_written_as_the_same_nan() -> None:
    """Processors produce NaNs of either sign; JSON has one name for all."""
    (odd,) = struct.unpack("<d", b"\x01\x00\x00\x00\x00\x00\xf8\xff")
    entity = from_line(b'{"__key__": ["K", 1], "a": {"b": [0]}}', PLACE)
    entity.properties["a"].entity_value.properties["b"].array_value.values[0].double_value = odd
    before = entity.SerializeToString()
    line, lossless = to_line(entity)
    assert lossless
    assert '{"doubleValue": "NaN"}' in line
    assert entity.SerializeToString() == before
    read = from_line(line.encode(), PLACE).properties["a"].entity_value.properties["b"]
    assert math.isnan(read.array_value.values[0].double_value)


def test_what_json_cannot_express_is_refused_and_not_lost() -> None:
    entity = from_line(b'{"__key__": ["K", 1]}', PLACE)
    entity.MergeFromString(b"\xfa\x3e\x01x")  # a field that a later version of the API may have
    with pytest.raises(LossError):
        to_line(entity, lossless=True)
    entity = from_line(b'{"__key__": ["K", 1]}', PLACE)
    entity.properties["t"].timestamp_value.seconds = 2**60
    with pytest.raises(LossError):
        to_line(entity)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1} {"a": 2}', "not JSON"),
        (b'[{"a": 1}]', "it is an array"),
        (b"5", "not an object"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "Infinity is not JSON"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 9223372036854775808}', "64 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits|64 bits"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"a": [[1]]}', "array inside an array"),
        (b'{"a": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "nested too deeply"),
        (b'{"__key__": 5}', "not a path"),
        (b'{"__key__": []}', "not a path"),
        (b'{"__key__": ["K", 1.5]}', "a key is a list"),
        (b'{"__key__": ["K", true]}', "a key is a list"),
        (b'{"__key__": [1, "K"]}', "a key is a list"),
        (b'{"__key__": ["K", 9223372036854775808]}', "64 bits"),
        (b'{"__key__": ["K", "\\ud800"]}', "surrogate"),
        (b'{"key": {"path": 5}}', "not a valid"),
        (b'{"key": {"path": []}, "properties": {"a": {"strungValue": ""}}}', "strungValue"),
        (b'{"key": {"path": []}, "properties": {"a": {"integerValue": "x"}}}', "not a valid"),
        (b'{"key": {"path": []}, "properties": {"a": {"stringValue": "\\ud800"}}}', "valid|surr"),
        (b'{"key": {"path": [], "\\ud800": 1}}', "UTF-8"),
        (b'{"key": {"path": []}, "properties": {"a": {"meaning": 2147483648}}}', "not a valid"),
    ],
)  # fmt: skip
def test_an_invalid_line_is_refused_with_a_reason(line: bytes, says: str) -> None:
    with pytest.raises(LineError, match=says):
        from_line(line, PLACE, kind="K")


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b'{"id": 7}', ["K", 7]),
        (b'{"id": "seven"}', ["K", "seven"]),
        (b'{"id": 7, "__key__": ["L", 8]}', ["L", 8]),
        (b'{"id": 7, "__key__": ["L"]}', ["L", 0]),
        (b'{"key": {"path": [{"kind": "M", "id": "9"}]}}', ["M", 9]),
    ],
)
def test_the_key_is_from_the_line_or_from_the_id_field(line: bytes, path: list[Any]) -> None:
    element = from_line(line, PLACE, kind="K", id_field="id").key.path[-1]
    assert [element.kind, element.name or element.id] == path


@pytest.mark.parametrize("value", [b"1.5", b"true", b"null", b"[1]", b"{}"])
def test_an_id_is_an_integer_or_a_string(value: bytes) -> None:
    with pytest.raises(LineError, match="is not an id"):
        from_line(b'{"id": ' + value + b"}", PLACE, kind="K", id_field="id")
    with pytest.raises(LineError, match="has no 'id'"):
        from_line(b'{"x": ' + value + b"}", PLACE, kind="K", id_field="id")


def test_a_loaded_key_is_in_the_target_partition_whatever_the_line_says() -> None:
    line = (
        b'{"key": {"partitionId": {"projectId": "q", "namespaceId": "m"}, "path": [{"kind": "K"}]}}'
    )
    place = from_line(line, PLACE).key.partition_id
    assert (place.project_id, place.database_id, place.namespace_id) == PLACE


def test_an_object_that_only_resembles_the_lossless_form_is_plain() -> None:
    for line in (
        b'{"key": "k", "properties": {}}',
        b'{"key": {"path": []}, "x": 1}',
        b'{"properties": {}}',
    ):
        assert set(from_line(line, PLACE, kind="K").properties) == set(json.loads(line))


@on_a_busy_machine
@given(entities(VALUES))
def test_usual_entities_get_the_form_of_protobuf(entity: Any) -> None:
    usual = v1_json.usual_form(entity)
    if usual is not None:
        form = v1_json.to_form(entity)
        assert (usual, json.dumps(usual)) == (form, json.dumps(form))
        assert v1_json.from_form(usual) == entity


def there_and_back(entity: Any) -> None:
    v1_json.from_form(v1_json.to_form(entity))


def test_that_takes_less_than_half_of_the_time_there_and_back() -> None:
    entity = m.Entity()
    for number in range(10):
        entity.properties[f"p{number}"].string_value = "x"
    least: dict[Any, float] = {}
    for _ in range(5):
        for form in (there_and_back, v1_json.usual_form):
            began = process_time()
            for _ in range(100):
                form(entity)
            took = process_time() - began
            least[form] = min(took, least.get(form, took))
    assert least[v1_json.usual_form] < least[there_and_back] / 2


def test_what_is_not_usual_is_left_to_protobuf() -> None:
    nan, unknown, deep = m.Entity(), m.Entity(), m.Entity()
    nan.properties["a"].double_value = math.nan
    unknown.MergeFromString(b"\xa0\x06\x01")  # field 100
    inner = deep.properties["a"]
    for _ in range(v1_json.MOST_DEEP + 1):
        inner = inner.entity_value.properties["a"]
    inner.string_value = "x"
    for entity in (nan, unknown, deep):
        assert v1_json.usual_form(entity) is None
    del inner
    usual = m.Entity()
    usual.properties["a"].string_value = "x"
    assert v1_json.usual_form(usual) == {"properties": {"a": {"stringValue": "x"}}}
