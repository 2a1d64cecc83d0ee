"""Values read and rewritten as bytes are what messages would make of them."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from bulkup.datastore.entity_patch import patched
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.messages import EntityPb, ValuePb
from bulkup.datastore.pages import PageEntity
from bulkup.datastore.scalar_codec import NOT_PLAIN, read_plain, rewritten
from bulkup.datastore.value_codec import decode, encode

EDGES = [0, 1, 127, 128, 129, 255, 256, 16_383, 16_384, 2**31, 2**53, 2**63 - 1]
NAN_WITH_A_PAYLOAD = struct.unpack("<d", bytes.fromhex("0100000000f4ffff"))[0]
integers = st.one_of(
    st.sampled_from([*EDGES, *(-edge for edge in EDGES), -(2**63)]),
    st.integers(0, 20_000),
    st.integers(-(2**63), 2**63 - 1),
)
texts = st.one_of(
    st.text(),
    st.builds(
        lambda size, unit, rest: unit * (size // len(unit.encode())) + rest,
        st.sampled_from([126, 127, 128, 129, 255, 256, 16_383, 16_384, 16_500]),
        st.sampled_from(["a", "é", "€", "😀"]),
        st.sampled_from(["", "z", "\u0618\x01\x01"]),  # the last looks like the index flag
    ),
)
floats = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, -math.nan, NAN_WITH_A_PAYLOAD]))
plain_values = st.one_of(texts, integers, floats, st.booleans(), st.none())
other_values = st.one_of(st.binary(max_size=9), st.lists(integers, max_size=3))


def message(value: Any, excluded: bool = False, meaning: int = 0) -> Any:
    pb = ValuePb(exclude_from_indexes=excluded, meaning=meaning)
    encode(pb, value)
    return pb


messages = st.builds(
    message,
    st.one_of(plain_values, other_values),
    st.booleans(),
    st.sampled_from([0, 0, 0, 18]),
)


def is_same(one: Any, other: Any) -> bool:
    if type(one) is float and type(other) is float:
        return struct.pack("<d", one) == struct.pack("<d", other)
    return type(one) is type(other) and one == other


def by_message(data: bytes) -> Any:
    """NOT_PLAIN where a message holds nothing, or refuses."""
    try:
        return decode(ValuePb.FromString(data))
    except (ValueError, DecodeError):
        return NOT_PLAIN


def says_the_truth(data: bytes) -> None:
    value = read_plain(data)
    if value is NOT_PLAIN:
        return
    assert is_same(value, by_message(data))
    pb = ValuePb.FromString(data)
    assert not pb.meaning
    assert pb.SerializeToString() == data  # the very bytes: what is equal needs no write


@given(messages)
@example(message("\u0618\x01\x01"))
@example(message("\u0618\x01\x01", excluded=True))
def test_what_is_read_is_what_the_message_says(pb: Any) -> None:
    says_the_truth(pb.SerializeToString())


@given(st.data(), messages)
def test_damaged_values_are_read_as_the_message_reads_them_or_not_at_all(
    data: st.DataObject, pb: Any
) -> None:
    good = pb.SerializeToString()
    at = data.draw(st.integers(0, len(good)))
    until = data.draw(st.integers(at, min(len(good), at + 3)))
    says_the_truth(good[:at] + data.draw(st.binary(max_size=3)) + good[until:])


TAGS = (0x8A, 0x01, 0x02, 0x08, 0x10, 0x19, 0x58, 0x70, 0x98, 0x00, 0x03, 0x7F, 0x80, 0xFF)


@given(st.lists(st.sampled_from(TAGS), max_size=12).map(bytes))
@example(b"")
@example(b"\x10\x80\x00")  # 0 in two bytes
@example(b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")  # -1
@example(b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\x80\x00")
@example(b"\x10" + b"\xff" * 20 + b"\x01")
@example(b"\x10\x00\x98\x01\x00")  # an index flag that says no
@example(b"\x10\x00\x98\x01\x01\x98\x01\x01")
@example(b"\x10\x98\x01\x01")
@example(b"\x10\x98\x01\x98\x01\x01")
@example(b"\x8a\x01\x81\x00a")
@example(b"\x8a\x01\x03\xed\xa0\x80")  # a lone surrogate
@example(b"\x8a\x01\x80")
@example(b"\x8a\x02\x01a")
@example(b"\x58\x01")
@example(b"\x08\x02")
def test_odd_bytes_are_read_as_the_message_reads_them_or_not_at_all(odd: bytes) -> None:
    says_the_truth(odd)


@pytest.mark.parametrize("excluded", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        "", "a", "é" * 200, "a" * 16_383, 0, 127, 128, 16_383, 16_384, 2**56 - 1, 2**56, 2**63 - 1,
        True, False, -0.0, 1e300, None,
    ],
)  # fmt: skip
def test_common_values_need_no_message(value: Any, excluded: bool) -> None:
    data = message(value, excluded).SerializeToString()

    assert is_same(read_plain(data), value)
    if value is not None:
        assert rewritten(data, value) == data


@given(messages, st.one_of(plain_values, other_values))
@example(message("a", excluded=True), "\u0618\x01\x01")
@example(message("\u0618\x01\x01"), "a")
@example(message(0.0), -0.0)
@example(message(math.nan), NAN_WITH_A_PAYLOAD)
@example(message(1), True)
@example(message(True), 1)
@example(message(1), 2**63 - 1)
def test_what_is_rewritten_is_what_the_message_would_be(pb: Any, value: Any) -> None:
    data = pb.SerializeToString()

    new = rewritten(data, value)

    if new is None:
        return
    assert type(decode(pb)) is type(value)
    if value != value and math.isnan(decode(pb)):
        assert new == data  # NaN is NaN
    else:
        assert new == message(value, pb.exclude_from_indexes).SerializeToString()
        assert (new == data) is is_same(decode(pb), value)


class Text(str):
    pass


class Number(int):
    pass


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a", Text("a")), (1, Number(1)), (1, 2**64), (1, -1), (1, 1.0), ("a", "\ud800"),
        ("a", None), (None, None), (None, 1), (b"a", b"a"), ("a", b"a"),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_messages(old: Any, new: Any) -> None:
    assert rewritten(message(old).SerializeToString(), new) is None


def outcome(data: bytes, value: Any, read_before: bool, in_place: bool) -> Any:
    page = PageEntity()
    page.properties["x"] = data
    entity = LazyEntity(page)
    try:
        if read_before:
            _ = entity["x"]
        entity["x"] = value
        patch = patched(entity, in_place=in_place)
    except (ValueError, TypeError) as error:
        return type(error), str(error)
    return None if patch is None else EntityPb.FromString(patch.SerializeToString())


unusual = [
    Text("a"), Number(1), 2**63, 2**64, -(2**63) - 1, "\ud800", b"a", object(), [1], {"a": 1},
]  # fmt: skip


@given(messages, st.one_of(plain_values, other_values, st.sampled_from(unusual)), st.booleans())
@example(message("a", meaning=18), "a", False)
@example(message("a", meaning=18), "b", False)
@example(message(2**40), 2**41, True)
@example(message(b"a", excluded=True), b"b", False)
def test_patched_in_place_or_in_a_copy_an_entity_becomes_the_same(
    pb: Any, value: Any, read_before: bool
) -> None:
    data = pb.SerializeToString()
    in_place = outcome(data, value, read_before, True)
    assert str(in_place) == str(outcome(data, value, read_before, False))  # NaN is not itself


@pytest.mark.parametrize(
    ("odd", "value"),
    [(b"\x10\x81\x00", 1), (b"\x98\x01\x00\x8a\x01\x01a", "a"), (b"\x12\x00\x92\x01\x01a", b"a")],
)
def test_the_same_value_in_other_bytes_is_not_a_change(odd: bytes, value: Any) -> None:
    assert outcome(odd, value, False, in_place=True) is None
    assert outcome(odd, value, False, in_place=False) is None
