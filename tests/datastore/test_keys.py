"""Keys: the official client's messages, and one string and one identity for each."""

from __future__ import annotations

import pytest
from google.cloud.datastore import Key
from google.cloud.datastore.helpers import key_from_protobuf
from hypothesis import given
from hypothesis import strategies as st

from bulkup.datastore.keys import key_bytes, key_from_pb, key_text, key_to_pb
from bulkup.datastore.messages import KeyPb

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
IDS = st.integers(-(2**63), 2**63 - 1).filter(bool)  # to the official client 0 is no id


@st.composite
def keys(draw: st.DrawFn) -> Key:
    path = draw(st.lists(st.tuples(TEXT, TEXT | IDS), min_size=1, max_size=4))
    flat = [part for pair in path for part in pair]
    if draw(st.booleans()):
        flat.pop()
    return Key(
        *flat,
        project=draw(TEXT),
        namespace=draw(st.none() | st.just("") | TEXT),
        database=draw(st.none() | st.just("") | TEXT),
    )


@given(keys())
def test_a_key_encodes_as_the_official_client_encodes_it(key: Key) -> None:
    assert key_to_pb(key) == key.to_protobuf()._pb


@given(keys())
def test_a_key_decodes_as_the_official_client_decodes_it(key: Key) -> None:
    pb = key_to_pb(key)
    ours, theirs = key_from_pb(pb), key_from_protobuf(pb)
    assert vars(ours) == vars(theirs)


@given(keys(), keys())
def test_two_keys_have_the_same_bytes_only_if_they_are_the_same_key(one: Key, other: Key) -> None:
    def parts(key: Key) -> tuple[object, ...]:
        return key.flat_path, key.project, key.namespace or "", key.database or ""

    same_bytes = key_bytes(key_to_pb(one)) == key_bytes(key_to_pb(other))
    assert same_bytes == (parts(one) == parts(other))


@given(keys())
def test_the_bytes_of_a_key_survive_the_wire(key: Key) -> None:
    raw = key_bytes(key_to_pb(key))
    assert key_bytes(KeyPb.FromString(raw)) == raw


def test_every_part_of_the_partition_belongs_to_the_identity() -> None:
    variants = [
        Key("City", 5, project="p"),
        Key("City", "5", project="p"),
        Key("City", 5, project="q"),
        Key("City", 5, project="p", namespace="n"),
        Key("City", 5, project="p", database="n"),
    ]
    assert len({key_bytes(key_to_pb(key)) for key in variants}) == len(variants)


def test_the_bytes_of_a_key_are_the_same_in_every_release() -> None:
    pb = key_to_pb(Key("City", 5, "Street", "a", project="p", namespace="n"))
    assert (
        key_bytes(pb)
        == b"\n\x06\x12\x01p\x22\x01n\x12\x08\n\x04City\x10\x05\x12\x0b\n\x06Street\x1a\x01a"
    )


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (Key("City", 5, project="p"), "Key('City', 5)"),
        (
            Key("City", 5, "Street", "a", project="p", namespace="x", database="d"),
            "Key('City', 5, 'Street', 'a', namespace='x')",
        ),
        (Key("City", project="p"), "Key('City')"),
        (Key("City", "\x1b[31m\n", project="p"), r"Key('City', '\x1b[31m\n')"),
    ],
)
def test_a_key_is_shown_as_python_with_control_characters_escaped(key: Key, text: str) -> None:
    assert key_text(key) == text
    assert key_text(key_to_pb(key)) == text


@given(keys())
def test_key_and_message_are_shown_alike(key: Key) -> None:
    text = key_text(key)
    assert key_text(key_to_pb(key)) == text
    assert text.isprintable()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (Key("City", 2**63, project="p"), "64 bits"),
        (Key("City", "\ud800", project="p"), "UTF-8"),
    ],
)
def test_a_key_that_cannot_be_sent_is_named(key: Key, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        key_to_pb(key)
    assert str(caught.value).startswith("Key('City', ")


def test_a_key_without_a_project_cannot_be_decoded() -> None:
    pb = KeyPb()
    pb.path.add(kind="City", id=5)
    with pytest.raises(ValueError, match="project"):
        key_from_pb(pb)
