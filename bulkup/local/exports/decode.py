"""Exported entities to `Entity` messages of the API.

Values become what Google's service makes of them when it imports them; `meanings.py` has the table.
What the format cannot express was lost in the export: nanoseconds, and the order of an array in
which some elements are indexed and others are not (the indexed ones come first).
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from bulkup.local import messages as m
from bulkup.local.exports import entity_proto, meanings
from bulkup.local.exports.entity_proto import text
from bulkup.local.exports.place import Database, project_of

MAX_NESTING = 30
"""Datastore has at most 20. Messages of the API that are nested deeper than this cannot be parsed
again by protobuf."""


class Decoder:
    """Decodes the entities of an export.

    `to`: the database that replaces the export's own in every key, including keys that are values
    and keys of entities that are values. Keys of other databases are unchanged.
    """

    def __init__(self, to: Database | None = None) -> None:
        self._to = to
        self._own = ("", "")
        """App id and database of the entity that is being decoded."""
        self._partitions: dict[tuple[str, str, str], Any] = {}

    def entity(self, data: bytes) -> Any:
        """An `Entity` message from a record. Raises ValueError, whose message completes a sentence
        about the record."""
        try:
            proto = entity_proto.EntityProto.FromString(data)
            self._set_own(proto.key)
            entity = m.Entity()
            self._fill(entity, proto, depth=0)
        except DecodeError:
            raise ValueError("it is not an entity") from None
        except UnicodeDecodeError:
            raise ValueError("it has a name that is not UTF-8") from None
        path = entity.key.path
        if not path or not all(e.kind and e.WhichOneof("id_type") for e in path):
            raise ValueError("its key is incomplete")
        return entity

    def _set_own(self, key: Any) -> None:
        own = (text(key.app), text(key.database_id))
        if own != self._own:
            self._own = own
            self._partitions.clear()

    def _fill(self, entity: Any, proto: Any, depth: int) -> None:
        if depth > MAX_NESTING:
            raise ValueError(f"entities are nested more than {MAX_NESTING} deep")
        if proto.key.app:
            self._key(entity.key, proto.key, proto.key.path.element)
        properties = entity.properties
        arrays: dict[str, Any] = {}
        for indexed, group in ((True, proto.property), (False, proto.raw_property)):
            for prop in group:
                name = prop.name
                if type(name) is bytes:
                    text(name)  # raises
                if name in arrays:
                    out = arrays[name].add()
                elif prop.multiple or name in properties:
                    # Emulators also turn several values with the same name into an array.
                    out = self._array(arrays, properties, name).add()
                else:
                    out = properties[name]
                if prop.meaning == meanings.VECTOR and prop.multiple:
                    # In the API the array has the meaning; in an export each of its numbers has it.
                    properties[name].meaning = meanings.VECTOR
                    properties[name].exclude_from_indexes = True
                    self._value(out, prop, True, depth)
                else:
                    self._value(out, prop, indexed, depth)

    def _array(self, arrays: dict[str, Any], properties: Any, name: str) -> Any:
        """The elements of a property, which is turned into an array."""
        first = None
        if name in properties:
            first = m.Value()
            first.CopyFrom(properties[name])
            properties[name].Clear()
        array = properties[name].array_value
        array.SetInParent()
        if first is not None:
            array.values.append(first)
        arrays[name] = array.values
        return array.values

    def _value(self, out: Any, prop: Any, indexed: bool, depth: int) -> None:
        value, meaning = prop.value, prop.meaning
        kind = value.WhichOneof("type")
        if kind == "string":
            self._string(out, prop, indexed, depth)
        elif kind == "int64":
            number = value.int64
            if meaning == meanings.TIMESTAMP and (
                meanings.MIN_MICROS <= number <= meanings.MAX_MICROS
            ):
                seconds, rest = divmod(number, m.MICROS)
                stamp = out.timestamp_value
                stamp.seconds, stamp.nanos = seconds, rest * 1000
            else:
                out.integer_value = number
                if meaning in meanings.INTEGERS:
                    out.meaning = meanings.INTEGERS[meaning]
        elif kind == "boolean":
            out.boolean_value = value.boolean
        elif kind == "double":
            out.double_value = value.double
        elif kind == "reference":
            self._key(out.key_value, value.reference, value.reference.pathelement)
        elif kind == "point":
            point = out.geo_point_value
            point.latitude, point.longitude = value.point.x, value.point.y
            if meaning != meanings.POINT:
                out.meaning = meanings.PLAIN_POINT
        elif kind == "user":
            self._user(out, value.user)
        elif meaning == meanings.EMPTY_LIST:
            out.array_value.SetInParent()
        elif value.ByteSize():
            raise ValueError(f"the value of its property {prop.name!r} has an unknown type")
        else:
            out.null_value = 0
        if not indexed:
            out.exclude_from_indexes = True

    def _string(self, out: Any, prop: Any, indexed: bool, depth: int) -> None:
        raw, meaning = prop.value.string, prop.meaning
        if prop.meaning_uri == meanings.ZLIB_URI:
            out.blob_value = raw
            out.meaning = meanings.ZLIB
        elif meaning == meanings.ENTITY:
            out.entity_value.SetInParent()
            inner = entity_proto.EntityProto.FromString(raw)
            self._fill(out.entity_value, inner, depth + 1)
        elif meaning == meanings.BLOB:
            out.blob_value = raw
        elif meaning == meanings.BYTE_STRING:
            out.blob_value = raw
            if not indexed:
                out.meaning = meanings.BYTE_STRING
        else:
            try:
                out.string_value = str(raw, "utf-8")
            except UnicodeDecodeError:
                out.blob_value = raw
                if not indexed:
                    out.meaning = meanings.BYTE_STRING
                return
            if meaning in meanings.STRINGS:
                out.meaning = meaning

    def _user(self, out: Any, user: Any) -> None:
        out.meaning = meanings.USER
        properties = out.entity_value.properties
        for name, field in USER_FIELDS.items():
            if user.HasField(field) or name in REQUIRED_OF_USERS:
                properties[name].string_value = text(getattr(user, field))
                properties[name].exclude_from_indexes = True

    def _key(self, key: Any, reference: Any, path: Any) -> None:
        key.partition_id.CopyFrom(self._partition(reference))
        for element in path:
            added = key.path.add(kind=text(element.type))
            if element.name:
                added.name = text(element.name)
            elif element.id:
                added.id = element.id

    def _partition(self, reference: Any) -> Any:
        found = (text(reference.app), text(reference.database_id), text(reference.name_space))
        partition = self._partitions.get(found)
        if partition is None:
            database = Database(project_of(found[0]), found[1])
            own_app, own_database = self._own
            if self._to and database == (project_of(own_app), own_database):
                database = self._to
            partition = m.Key().partition_id
            partition.project_id, partition.database_id = database
            partition.namespace_id = found[2]
            if len(self._partitions) < _MAX_PARTITIONS:
                self._partitions[found] = partition
        return partition


_MAX_PARTITIONS = 1000
"""Partition messages kept for reuse. An export may have any number of namespaces."""

USER_FIELDS = {
    "email": "email",
    "auth_domain": "auth_domain",
    "user_id": "obfuscated_gaiaid",
    "federated_identity": "federated_identity",
    "federated_provider": "federated_provider",
}
"""Properties of a user in the API, and the matching fields of an exported user."""
REQUIRED_OF_USERS = ("email", "auth_domain")
