"""Makes the message to write for `put(entity)`: the original message with the changes patched in.

Each property that was touched is compared with the original message, so a change inside a list or
nested entity is found as reliably as an assignment.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from google.cloud.datastore import Entity
from google.protobuf.message import DecodeError

from bulkup.core.limits import (
    MAX_INDEXED_BYTES,
    LimitError,
    check_properties,
    check_property_name,
    check_value,
)
from bulkup.core.places import about
from bulkup.datastore.doubts import Doubts, note_doubts
from bulkup.datastore.keys import key_to_pb
from bulkup.datastore.lazy_entity import (
    UNREAD,
    LazyEntity,
    carried_message,
    has_key,
    is_moved,
    read_message,
    value_message,
)
from bulkup.datastore.messages import EntityPb, Pb, ValuePb
from bulkup.datastore.pages import PageEntity
from bulkup.datastore.scalar_codec import rewritten
from bulkup.datastore.value_codec import ENCODERS, PLAIN, encode, named, new_value, write_entity
from bulkup.datastore.value_compare import same
from bulkup.datastore.value_flags import exclude, is_excluded, meaning_of, set_meaning


def encode_put(
    entity: Entity, *, rewrite: bool = False, checked: bool = False, doubts: Doubts | None = None
) -> Pb | None:
    """The Entity message to write for `put(entity)`. Later changes to the entity do not affect it.

    For a LazyEntity it is the original message with the changes patched in, or None without changes
    (with `rewrite`: a copy of the original). A new key is a change. For any other Entity it is what
    the official client would send.

    `doubts`: doubts about the new values are added here.
    Raises ValueError or TypeError, naming the property, for what cannot be encoded, and LimitError,
    if `checked`, for what Datastore would refuse.
    """
    lazy = isinstance(entity, LazyEntity)
    if not (has_key(entity) if lazy else entity.key is not None):
        raise ValueError("cannot put an entity that has no key")
    try:
        if lazy:
            patch = patched(entity, checked=checked, doubts=doubts)
            if patch is None:
                return read_message(entity) if rewrite or entity._unsent else None
            return EntityPb.FromString(patch.SerializeToString())
        pb = EntityPb()
        write_entity(pb, entity)
        if checked:
            check_properties(pb)
        if doubts is not None:
            for name, value in entity.items():
                note_doubts(doubts, name, None, value)
        return pb
    except RecursionError as error:
        raise ValueError("cannot put an entity that contains itself") from error
    except DecodeError as error:
        raise ValueError(
            f"cannot put an entity with a value that cannot be read: {error}"
        ) from error


_PLAIN = {type_: name for name, type_ in PLAIN.items()}
IMMUTABLE = frozenset({*_PLAIN, type(None)})
"""Types whose values cannot be changed in place."""

_Edit: TypeAlias = tuple[str, bytes, Any]
"""A changed property: its name, its new serialized Value, and the value encoded there. A plain
tuple, because one is made per changed property."""


def patched(
    entity: LazyEntity,
    *,
    in_place: bool = False,
    checked: bool = False,
    doubts: Doubts | None = None,
) -> Pb | None:
    """A copy of the entity's PageEntity with its changes patched in, or None without changes.

    `in_place`: if it is safe, patch and return the message itself, so that the next put is compared
    with this one. `checked`: raise LimitError for a change that Datastore would refuse; nested
    entities are checked with the property that contains them.
    `doubts`: doubts about the new values are added here.
    """
    edits: list[_Edit] = []
    added: list[Any] = []
    if entity._excluded is UNREAD and entity._read_meanings is UNREAD:
        independent = _find_changed_values(entity, edits, added, checked, doubts)
        in_place = in_place and independent and not entity._has_twin
    else:
        entity._name_all()
        _find_changed_properties(entity, edits, added, checked, doubts)
        in_place = False
    deleted = entity._named and dict.__len__(entity) - len(added) < len(entity._properties)
    moved = entity._key is not entity._read_key and is_moved(entity)
    if not (edits or added or deleted or moved):
        return None
    # A deletion needs a copy: the index flag must survive in case the property comes back.
    if deleted or moved or not in_place:
        pb = _copied(PageEntity, entity._pb)
        properties = pb.properties
        for name, data, _ in edits:
            properties[name] = data
    else:
        pb, properties, seen = entity._pb, entity._properties, entity._seen
        for name, data, value in edits:
            properties[name] = data
            seen[name] = value  # the message no longer says what was read
        for name in added:
            value = entity[name]
            seen[name] = value if type(value) in IMMUTABLE else UNREAD
    if deleted:
        for name in [name for name in properties if name not in entity]:
            del properties[name]
    for name in added:
        _add_property(entity, properties, name, checked, doubts)
    if moved:
        pb.ClearField("key")
        if entity._key is not None:
            pb.key = key_to_pb(entity._key).SerializeToString()
    return pb


def _find_changed_values(
    entity: LazyEntity,
    edits: list[_Edit],
    added: list[Any],
    checked: bool,
    doubts: Doubts | None,
) -> bool:
    """Collect the properties that changed or are new, if index flags and meanings were not read.

    Returns whether the message may be patched in place. False if a nested entity or
    array has changed: values that were read inside it still refer to its property's old message.
    """
    seen, properties = entity._seen, entity._properties
    independent = True
    name: Any
    value: Any
    items: Any = dict.items(entity)
    try:
        for name, value in items:
            if value is UNREAD:
                continue
            # The very object that was read, if its type is immutable, equals the message's value.
            if value is seen.get(name, UNREAD) and type(value) in IMMUTABLE:
                continue
            data = properties.get(name) if isinstance(name, str) else None
            if data is None:
                added.append(name)
                continue
            new = rewritten(data, value)
            if new is not None:
                if new != data:
                    if len(new) > MAX_INDEXED_BYTES and checked:
                        check_value(name, ValuePb.FromString(new))
                    edits.append((name, new, value))
                continue
            original = value_message(entity, name)
            edit = edited(original, value)
            if edit is not None:
                if checked:
                    check_value(name, edit)
                if doubts is not None:
                    note_doubts(doubts, name, original, value)
                edits.append((name, edit.SerializeToString(), value))
                plain = _PLAIN.get(type(value), "")
                independent = independent and original.WhichOneof("value_type") == plain
    except LimitError as error:
        about(error, name)
        raise
    except (TypeError, ValueError) as error:
        raise named(name, error) from None  # the new error repeats the original's message
    return independent


def _find_changed_properties(
    entity: LazyEntity,
    edits: list[_Edit],
    added: list[Any],
    checked: bool,
    doubts: Doubts | None,
) -> None:
    """Like `_find_changed_values`, if index flags or meanings were read and so may have changed."""
    properties = entity._properties
    name: Any
    value: Any
    items: Any = dict.items(entity)
    try:
        for name, value in items:
            data = properties.get(name) if isinstance(name, str) else None
            if data is None:
                added.append(name)
                continue
            original = value_message(entity, name)
            carried = carried_message(entity, name, value)
            if carried is None:
                edit = _edited_property(entity, name, original, value)
            else:
                edit = _edited_property(entity, name, carried, value) or carried
            if edit is not None:
                if checked:
                    check_value(name, edit)
                if doubts is not None:
                    note_doubts(doubts, name, original, value)
                edits.append((name, edit.SerializeToString(), value))
    except LimitError as error:
        about(error, name)
        raise
    except (TypeError, ValueError) as error:
        raise named(name, error) from None  # the new error repeats the original's message


def _add_property(
    entity: LazyEntity, properties: Pb, name: Any, checked: bool, doubts: Doubts | None
) -> None:
    if not isinstance(name, str):
        raise TypeError(f"property {name!r}: a property's name is a str")
    value = entity[name]
    carried = carried_message(entity, name, value)
    if carried is None:
        pb = _new_property(entity, name, value)
    else:
        pb = _edited_property(entity, name, carried, value) or carried
    data = pb.SerializeToString()
    if not checked:
        properties[name] = data
        return
    try:
        if not name or name[0] == "_" or len(name) > MAX_INDEXED_BYTES // 4:
            check_property_name(name)
        if type(value) not in IMMUTABLE or len(data) > MAX_INDEXED_BYTES:
            check_value(name, pb)
            if doubts is not None:
                note_doubts(doubts, name, None, value)
    except LimitError as error:
        about(error, name)
        raise
    properties[name] = data


def _new_property(entity: LazyEntity, name: str, value: Any) -> Pb:
    pb = new_value(name, value)
    if entity._excluded is not UNREAD and name in entity._excluded:
        exclude(pb)
    if entity._read_meanings is not UNREAD:
        meaning, read_value = entity._read_meanings.get(name, (None, None))
        if read_value is value:
            set_meaning(pb, meaning)
    return pb


def _edited_property(entity: LazyEntity, name: str, original: Pb, value: Any) -> Pb | None:
    """A property's new Value message, or None if value, index flag and meaning are unchanged."""
    pb = None if value is UNREAD else edited(original, value)
    if entity._excluded is not UNREAD:
        excluded = name in entity._excluded
        if excluded != is_excluded(original):
            pb = _reindexed(original, pb, excluded)
    if entity._read_meanings is not UNREAD and value is not UNREAD:
        pb = _remeant(original, pb, entity._read_meanings.get(name), value)
    return pb


def _reindexed(original: Pb, edit: Pb | None, excluded: bool) -> Pb | None:
    pb = _copied(ValuePb, original) if edit is None else edit
    if excluded:
        exclude(pb)
    else:
        pb.exclude_from_indexes = False
        for element in pb.array_value.values:
            element.exclude_from_indexes = False
    # An empty array cannot have the flag, so setting it is no change.
    return None if edit is None and pb == original else pb


def _remeant(original: Pb, edit: Pb | None, record: Any, value: Any) -> Pb | None:
    """Apply what the user did to `_meanings`, by the official client's rules."""
    meaning, read_value = record or (None, None)
    if meaning is not None and read_value is not value:
        return edit
    if meaning == meaning_of(original if edit is None else edit):
        return edit
    if edit is not None and original.HasField("array_value") and meaning == meaning_of(original):
        return edit  # in an array changed in place, the elements that stayed keep their meanings
    pb = _copied(ValuePb, original) if edit is None else edit
    pb.meaning = 0
    for element in pb.array_value.values:
        element.meaning = 0
    set_meaning(pb, meaning)
    return pb


def edited(original: Pb, value: Any) -> Pb | None:
    """The Value message for a property's current value, or None if `original` already says it.

    A new value keeps the index flag and loses the meaning of the one it replaces. An entity or
    array changed in place keeps both, and everything inside it that is unchanged.
    """
    if isinstance(value, dict):
        if original.HasField("entity_value"):
            return _edited_entity(original, value)
    elif isinstance(value, list):
        if original.HasField("array_value"):
            return _edited_array(original, value)
    elif same(original, value):
        return None
    return _replaced(original, value)


def _replaced(original: Pb, value: Any) -> Pb:
    pb = ValuePb()
    encode(pb, value)
    if is_excluded(original):
        exclude(pb)
    return pb


def _edited_entity(original: Pb, value: dict[str, Any]) -> Pb | None:
    nested = original.entity_value
    # protobuf caches wrappers while they live, so `is` finds the entity decoded from this message.
    if isinstance(value, LazyEntity) and value._origin is nested:
        patch = patched(value)
        if patch is None:
            return None
        pb = _copied(ValuePb, original)
        pb.entity_value.ParseFromString(patch.SerializeToString())
        return pb
    pb = _replaced(original, value)
    return None if pb.entity_value == nested else pb


def _edited_array(original: Pb, values: list[Any]) -> Pb | None:
    elements = list(original.array_value.values)
    before, after = len(elements), len(values)
    if before == after:
        head, tail = before, 0
    else:
        shorter = min(before, after)
        head = 0
        while head < shorter and _matches(elements[head], values[head]):
            head += 1
        tail = 0
        while tail < shorter - head and _matches(elements[-1 - tail], values[-1 - tail]):
            tail += 1
    pairs = list(zip(elements[:head], values[:head], strict=True))
    pairs += zip(elements[before - tail :], values[after - tail :], strict=True)
    edits = [edited(element, value) for element, value in pairs]
    if before == after and not any(edit is not None for edit in edits):
        return None
    pb = ValuePb()
    if pairs:  # otherwise all is new, and a legacy meaning that says "an empty list" is dropped
        pb.meaning = original.meaning
        pb.exclude_from_indexes = original.exclude_from_indexes
    pb.array_value.SetInParent()
    add = pb.array_value.values.add
    kept = [
        element if edit is None else edit for (element, _), edit in zip(pairs, edits, strict=True)
    ]
    for element in kept[:head]:
        add().CopyFrom(element)
    excluded = is_excluded(original)
    for value in values[head : after - tail]:
        element = add()
        encode(element, value)
        element.exclude_from_indexes = excluded
    for element in kept[head:]:
        add().CopyFrom(element)
    return pb


def _matches(element: Pb, value: Any) -> bool:
    """Whether a value matches an element. Does not encode a value of another type, because a value
    that could be read may be refused when it is written."""
    if isinstance(value, dict):
        if not element.HasField("entity_value"):
            return False
        if isinstance(value, LazyEntity):
            # By identity, even if changed: comparing here and patching later would do the work
            # twice at every level of nesting.
            return value._origin is element.entity_value
    elif not isinstance(value, list):
        return same(element, value)
    elif not element.HasField("array_value"):
        return False
    return edited(element, value) is None


def _copied(class_: Any, original: Pb) -> Pb:
    pb = class_()
    pb.CopyFrom(original)
    return pb


def _encode_lazy(pb: Pb, value: LazyEntity) -> None:
    patch = patched(value) or value._pb
    pb.entity_value.SetInParent()
    pb.entity_value.ParseFromString(patch.SerializeToString())


ENCODERS[LazyEntity] = _encode_lazy
