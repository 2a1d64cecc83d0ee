"""Exported entities to entities of the API and back."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given

from bulkup.local import messages as m
from bulkup.local.exports import decode as decoding
from bulkup.local.exports.decode import Decoder
from bulkup.local.exports.encode import encode
from bulkup.local.exports.entity_proto import EntityProto
from bulkup.local.exports.place import Database
from tests.local.differential.budget import examples
from tests.local.differential.build import Geo, Place, Time, Unindexed, value
from tests.local.differential.strategies import worlds
from tests.local.exports.values import after_export, entities, keyed, with_meaning

HERE = Place("p")


def same(one: Any, other: Any) -> bool:
    serialized = [each.SerializeToString(deterministic=True) for each in (one, other)]
    return bool(serialized[0] == serialized[1])


@given(worlds())
@examples(50)
def test_generated_entities_are_the_same_after_a_round_trip(world: list[Any]) -> None:
    for entity in world:
        back = Decoder().entity(encode(entity))
        assert same(back, after_export(entity))
        assert same(Decoder().entity(encode(back)), back)


@pytest.mark.parametrize("server", ["LF", "FS"])
def test_every_value_is_the_same_after_a_round_trip(server: str) -> None:
    for entity in entities("p", server, large=False):
        assert same(Decoder().entity(encode(entity)), after_export(entity))


def test_the_same_entity_always_has_the_same_bytes() -> None:
    one, other = m.Entity(), m.Entity()
    for entity, names in ((one, "abc"), (other, "cba")):
        entity.key.CopyFrom(HERE.key("K", 1))
        for name in names:
            entity.properties[name].integer_value = 1
    assert encode(one) == encode(other)


# --- what others write, as both of Google's emulators serve it after an import ---


def exported(*properties: dict[str, Any], app: str = "s~p", database: str = "") -> bytes:
    """A record with the key K:1; a property is unindexed with `raw=True`."""
    proto = EntityProto()
    proto.key.app = app
    if database:
        proto.key.database_id = database
    proto.key.path.element.add(type="K", id=1)
    proto.entity_group.element.add(type="K", id=1)
    for one in properties:
        of = dict(one)
        group = proto.raw_property if of.pop("raw", False) else proto.property
        prop = group.add(name=of.pop("name", "p"), multiple=of.pop("multiple", False))
        prop.value.SetInParent()
        for field in ("meaning", "meaning_uri"):
            if field in of:
                setattr(prop, field, of.pop(field))
        for field, content in of.items():
            if isinstance(content, dict):
                for name, inner in content.items():
                    setattr(getattr(prop.value, field), name, inner)
                getattr(prop.value, field).SetInParent()
            else:
                setattr(prop.value, field, content)
    return bytes(proto.SerializeToString())


def decoded(*properties: dict[str, Any]) -> Any:
    entity = Decoder().entity(exported(*properties))
    assert list(entity.properties) == ["p"]
    return entity.properties["p"]


USER = {
    "email": "a@example.com", "auth_domain": "example.com", "gaiaid": 77, "nickname": "a",
    "obfuscated_gaiaid": "9", "federated_identity": "i", "federated_provider": "f",
}  # fmt: skip


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        # A meaning that the value cannot have is dropped.
        ([{"string": b"x", "meaning": 9}], value("x")),
        ([{"string": b"x", "meaning": 13}], value("x")),
        ([{"int64": 1, "meaning": 1}], value(1)),
        ([{"boolean": True, "meaning": 7}], value(True)),
        ([{"double": 1.0, "meaning": 7}], value(1.0)),
        # A string that is no UTF-8 is a blob.
        ([{"string": b"\xff"}], value(b"\xff")),
        (
            [{"string": b"\xff", "meaning": 15, "raw": True}],
            with_meaning(b"\xff", 16, unindexed=True),
        ),
        # What a commit would refuse.
        ([{"string": b"t", "meaning": 15}], with_meaning("t", 15)),
        ([{"string": b"z", "meaning": 14, "meaning_uri": "ZLIB"}], with_meaning(b"z", 22)),
        ([{"string": b"b", "meaning": 14}], value(b"b")),
        ([{"string": b"x" * 2000}], value("x" * 2000)),
        ([{"int64": 1000, "meaning": 13}], with_meaning(1000, 13)),
        ([{"point": {"x": 100.0, "y": 200.0}, "meaning": 9}], value(Geo(100.0, 200.0))),
        ([{"point": {"x": 1.0, "y": 2.0}}], with_meaning(Geo(1.0, 2.0), 23)),
        # The years 1 to 9999, and the microseconds beside them.
        ([{"int64": -62135596800000000, "meaning": 7}], value(Time(-62135596800))),
        ([{"int64": -62135596800000001, "meaning": 7}], with_meaning(-62135596800000001, 7)),
        ([{"int64": 253402300799999999, "meaning": 7}], value(Time(253402300799, 999999000))),
        ([{"int64": 253402300800000000, "meaning": 7}], with_meaning(253402300800000000, 7)),
        # Arrays.
        ([{"int64": 1}, {"int64": 2}], value([1, 2])),
        ([{"int64": 1}, {"int64": 2, "raw": True}], value([1, Unindexed(2)])),
        ([{"int64": 1}, {"string": b"x"}, {}], value([1, "x", None])),
        ([{"int64": 1}, {"int64": 2, "multiple": True}], value([1, 2])),
        ([{"meaning": 24}], value([])),
        ([{"multiple": True}], value([None])),
        (
            [{"double": n, "meaning": 31, "multiple": True, "raw": True} for n in (1.0, 2.0)],
            with_meaning([1.0, 2.0], 31, unindexed=True),
        ),
        # Users have more than the API shows.
        (
            [{"user": USER, "raw": True}],
            with_meaning(
                {
                    "email": Unindexed("a@example.com"),
                    "auth_domain": Unindexed("example.com"),
                    "user_id": Unindexed("9"),
                    "federated_identity": Unindexed("i"),
                    "federated_provider": Unindexed("f"),
                },
                20,
                unindexed=True,
            ),
        ),
        ([{"string": b"", "meaning": 19}], value({})),
    ],
)
def test_odd_values(properties: list[dict[str, Any]], expected: Any) -> None:
    assert same(decoded(*properties), expected)


def test_an_empty_array_that_is_unindexed_stays_so() -> None:
    empty = decoded({"meaning": 24, "raw": True})
    assert empty.HasField("array_value")
    assert empty.exclude_from_indexes
    entity = HERE.entity(("K", 1), {"p": empty})
    assert same(Decoder().entity(encode(entity)), entity)


# --- keys ---


def test_the_own_project_and_database_are_mapped_in_every_key() -> None:
    place, other = Place("p"), Place("other")
    inner = keyed(place.key("I", 1), key=place.key("A", 1), foreign=other.key("A", 2))
    entity = place.entity(
        ("K", 1),
        {
            "key": place.key("A", 1),
            "raw": Unindexed(place.key("A", 1)),
            "namespace": Place("p", "ns").key("A", 1),
            "foreign": other.key("A", 1),
            "array": [place.key("A", 1), other.key("A", 1)],
            "inner": inner,
            "deep": {"in": inner},
        },
    )
    moved = str(Decoder(Database("new", "db")).entity(encode(entity)))
    assert '"p"' not in moved
    assert moved.count('project_id: "other"') == 4
    assert moved.count('project_id: "new"') == moved.count('database_id: "db"') == 9
    assert moved.count('namespace_id: "ns"') == 1
    assert same(Decoder(Database("p")).entity(encode(entity)), entity)


@pytest.mark.parametrize("app", ["p", "s~p", "e~p", "dev~p"])
def test_the_region_of_an_app_id_is_not_part_of_the_project(app: str) -> None:
    record = exported({"name": "key", "reference": {"app": "s~p"}}, app=app)
    entity = Decoder().entity(record)
    assert entity.key.partition_id.project_id == "p"
    assert entity.properties["key"].key_value.partition_id.project_id == "p"
    entity = Decoder(Database("new")).entity(record)
    assert entity.properties["key"].key_value.partition_id.project_id == "new"


def test_a_project_with_a_domain_keeps_it() -> None:
    assert Decoder().entity(exported(app="s~example.com:p")).key.partition_id.project_id == (
        "example.com:p"
    )


def test_a_key_of_another_database_of_the_project_stays() -> None:
    record = exported(
        {"name": "own", "reference": {"app": "s~p", "database_id": "one"}},
        {"name": "other", "reference": {"app": "s~p", "database_id": "two"}},
        {"name": "default", "reference": {"app": "s~p"}},
        database="one",
    )
    entity = Decoder(Database("new")).entity(record)
    found = {
        name: (one.key_value.partition_id.project_id, one.key_value.partition_id.database_id)
        for name, one in entity.properties.items()
    }
    assert found == {"own": ("new", ""), "other": ("p", "two"), "default": ("p", "")}


def test_more_namespaces_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_MAX_PARTITIONS", 2)
    decoder = Decoder(Database("new"))
    for number in [*range(5), *range(5)]:
        entity = Place("p", f"n{number}").entity(("K", 1), {})
        partition = decoder.entity(encode(entity)).key.partition_id
        assert (partition.project_id, partition.namespace_id) == ("new", f"n{number}")


# --- what is no entity ---


def nested(depth: int) -> Any:
    inner: Any = {}
    for _ in range(depth):
        inner = {"p": inner}
    return HERE.entity(("K", 1), {"p": inner})


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"", "its key is incomplete"),
        (b"\xff\xff\xff", "not an entity"),
        (b"garbage that is no protobuf", "not an entity"),
        (exported(app=""), "its key is incomplete"),
        (exported({"string": b"garbage", "meaning": 19}), "not an entity"),
    ],
)
def test_a_record_that_is_not_an_entity_is_refused(record: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Decoder().entity(record)


@pytest.mark.parametrize(
    "record",
    [
        exported({"name": "NAME", "int64": 1}),
        exported({"name": "p", "user": {"email": "NAME", "auth_domain": "a"}}),
        exported({"name": "p", "reference": {"app": "NAME"}}),
        exported(app="NAME"),
        encode(Place("p", "NAME").entity(("K", 1), {})),
        encode(HERE.entity(("NAME", 1), {})),
        encode(HERE.entity(("K", "NAME"), {})),
    ],
)
def test_a_name_that_is_not_utf8_is_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match="a name that is not UTF-8"):
        Decoder().entity(record.replace(b"NAME", b"\xff\xfe\xfd\xfc"))


def test_a_type_of_value_that_is_unknown_is_refused() -> None:
    proto = EntityProto.FromString(exported({}))
    # Field 30 of the value, as a later version of the format might have it.
    proto.property[0].value.MergeFromString(b"\xf0\x01\x07")
    with pytest.raises(ValueError, match="'p' has an unknown type"):
        Decoder().entity(proto.SerializeToString())


@pytest.mark.parametrize("ident", [{}, {"id": 0}, {"name": ""}])
def test_an_incomplete_key_is_refused_and_as_a_value_kept(ident: dict[str, Any]) -> None:
    proto = EntityProto.FromString(exported({}))
    proto.property[0].value.reference.app = "s~p"
    proto.property[0].value.reference.pathelement.add(type="K", **ident)
    entity = Decoder().entity(proto.SerializeToString())
    assert same(entity.properties["p"], value(HERE.key("K", None)))
    del proto.key.path.element[:]
    proto.key.path.element.add(type="K", **ident)
    with pytest.raises(ValueError, match="its key is incomplete"):
        Decoder().entity(proto.SerializeToString())


def test_entities_in_each_other_are_read_down_to_where_protobuf_reads_them_again() -> None:
    entity = nested(decoding.MAX_NESTING - 1)
    back = Decoder().entity(encode(entity))
    assert same(back, entity)
    assert m.Entity.FromString(back.SerializeToString()) == entity
    with pytest.raises(ValueError, match="nested more than"):
        Decoder().entity(encode(nested(decoding.MAX_NESTING)))
    record = b""
    for _ in range(5000):  # deeper than Python calls itself
        record = exported({"string": record, "meaning": 19})
    with pytest.raises(ValueError, match="nested more than"):
        Decoder().entity(record)


def test_damage_that_a_checksum_does_not_show_is_an_error_or_another_entity() -> None:
    """Whatever is in a record, nothing but ValueError is raised."""
    records = [encode(entity) for entity in entities("p", "FS", large=False)]
    drawn = random.Random(7)
    refused = 0
    for _ in range(1000):
        record = bytearray(drawn.choice(records))
        at = drawn.randrange(len(record))
        other = drawn.choice(records)
        record[at : at + drawn.randrange(3)] = drawn.choice(
            (drawn.randbytes(1), b"", other[: drawn.randrange(40)], bytes([record[at] ^ 1]))
        )
        try:
            entity = Decoder(Database("new")).entity(bytes(record))
        except ValueError:
            refused += 1
        else:
            assert m.Entity.FromString(entity.SerializeToString()).key == entity.key
            encode(entity)
    assert 300 < refused < 1000


def test_an_array_in_an_array_cannot_be_exported() -> None:
    entity = HERE.entity(("K", 1), {"p": [1]})
    entity.properties["p"].array_value.values.add().array_value.SetInParent()
    with pytest.raises(ValueError, match="'p' has an array in an array"):
        encode(entity)


def test_an_entity_that_only_looks_like_a_user_loses_no_property() -> None:
    entity = HERE.entity(("K", 1), {"p": with_meaning({"email": "e", "more": 1}, 20)})
    back = Decoder().entity(encode(entity))
    entity.properties["p"].meaning = 0
    assert same(back, entity)
