"""Compares two entities bit by bit, wherever each of them is stored.

Keys are compared relative to the partition (project, database, namespace) of their own side: the
entity's own key, and every key in its values that lies in that partition. A key of another
partition is compared as it is. So a copy of a namespace differs from the original if its references
still point into the original.
"""

from __future__ import annotations

from typing import NamedTuple

from bulkup.datastore.entity_diff import describe_values
from bulkup.datastore.keys import key_bytes, key_of, key_text
from bulkup.datastore.messages import KeyPb, Pb, ValuePb
from bulkup.datastore.rest_form import value_form

ABSENT = "absent"

_TYPES = {
    "null_value": "null",
    "boolean_value": "boolean",
    "integer_value": "integer",
    "double_value": "float",
    "timestamp_value": "timestamp",
    "key_value": "key",
    "string_value": "string",
    "blob_value": "bytes",
    "geo_point_value": "point",
    "array_value": "array",
    "entity_value": "entity",
}


class Partition:
    """The partition of one side's keys."""

    def __init__(self, project: str, database: str, namespace: str) -> None:
        key = KeyPb()
        key.partition_id.project_id = project
        key.partition_id.database_id = database
        key.partition_id.namespace_id = namespace
        self.id = key.partition_id
        self.mark = project.encode()
        """These bytes occur in every serialized value that holds a key of this partition."""
        self._prefix = key_bytes(key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Partition) and self._prefix == other._prefix

    def __hash__(self) -> int:
        return hash(self._prefix)

    def relative(self, key: bytes) -> bytes:
        """A serialized key of this partition, without the partition. Equal paths give equal bytes
        in any partition."""
        prefix = self._prefix
        if key.startswith(prefix):
            return key[len(prefix) :]
        pb = key_of(key)
        pb.ClearField("partition_id")
        return key_bytes(pb)

    def absolute(self, relative: bytes) -> bytes:
        """The serialized key of a path in this partition."""
        return self._prefix + relative


class PropertyDifference(NamedTuple):
    """One property that differs."""

    name: str
    before: Pb | None
    """A Value message; None: absent."""
    after: Pb | None

    def types(self) -> tuple[str, str]:
        """The type on each side, and whether it is not indexed: `string`, `string, not indexed`."""
        return _type(self.before), _type(self.after)

    def texts(self) -> tuple[str | None, str | None]:
        """The values for people, shortened; None if absent."""
        return describe_values(self.before, self.after)

    def forms(self) -> tuple[dict[str, object] | None, dict[str, object] | None]:
        """The values for programs, in full."""
        return (
            None if self.before is None else value_form(self.before),
            None if self.after is None else value_form(self.after),
        )


class EntityComparison:
    """Compares entities of two partitions. An entity is a PageEntity message."""

    def __init__(self, a: Partition, b: Partition) -> None:
        self._a, self._b = a, b
        self._is_one_place = a == b

    def differing(self, a: Pb, b: Pb) -> list[str]:
        """The names of the properties that are not the same, sorted."""
        one, other = a.properties, b.properties
        marks = None if self._is_one_place else (self._a.mark, self._b.mark)
        names = []
        for name, value in one.items():
            if name in other:
                theirs = other[name]
                if value == theirs and (
                    marks is None or (marks[0] not in value and marks[1] not in value)
                ):
                    continue  # nearly always
                if self._is_same(value, theirs):
                    continue
            names.append(name)
        if names or len(one) != len(other):
            names += [name for name in other if name not in one]
        return sorted(names)

    def _is_same(self, a: bytes, b: bytes) -> bool:
        if self._is_one_place:
            return _canonical(a) == _canonical(b)
        return _canonical(a, self._a) == _canonical(b, self._b)


def properties_of(entity: Pb | None, names: list[str]) -> dict[str, Pb]:
    """These properties of a PageEntity as Value messages, without those that it lacks."""
    if entity is None:
        return {}
    properties = entity.properties
    return {name: ValuePb.FromString(properties[name]) for name in names if name in properties}


def property_differences(a: Pb, b: Pb, names: list[str]) -> list[PropertyDifference]:
    """What two PageEntity messages hold in these properties."""
    before, after = properties_of(a, names), properties_of(b, names)
    return [PropertyDifference(name, before.get(name), after.get(name)) for name in names]


def with_properties(entity: Pb, source: Pb, names: list[str]) -> bytes:
    """Serialize a copy of `entity` with these properties as in `source`, without those that
    `source` lacks."""
    made = type(entity)()
    made.CopyFrom(entity)
    for name in names:
        if name in source.properties:
            made.properties[name] = source.properties[name]
        elif name in made.properties:
            del made.properties[name]
    serialized: bytes = made.SerializeToString()
    return serialized


def text_of(key: bytes) -> str:
    """A serialized key for people."""
    return key_text(key_of(key))


def _type(value: Pb | None) -> str:
    if value is None:
        return ABSENT
    which = value.WhichOneof("value_type")
    name = _TYPES.get(which or "", "unknown")
    return f"{name}, not indexed" if value.exclude_from_indexes else name


def _canonical(value: bytes, partition: Partition | None = None) -> bytes:
    """Serialize a Value again with its maps in a fixed order. `partition`: make keys relative to
    it."""
    pb = ValuePb.FromString(value)
    if partition is not None and partition.mark in value:
        _make_relative(pb, partition)
    serialized: bytes = pb.SerializeToString(deterministic=True)
    return serialized


def _make_relative(value: Pb, partition: Partition) -> None:
    which = value.WhichOneof("value_type")
    if which == "key_value":
        _drop_partition(value.key_value, partition)
    elif which == "array_value":
        for element in value.array_value.values:
            _make_relative(element, partition)
    elif which == "entity_value":
        if value.entity_value.HasField("key"):
            _drop_partition(value.entity_value.key, partition)
        for nested in value.entity_value.properties.values():
            _make_relative(nested, partition)


def _drop_partition(key: Pb, partition: Partition) -> None:
    if key.partition_id == partition.id:
        key.ClearField("partition_id")
