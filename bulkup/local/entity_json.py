"""Entities as lines of JSON, in two forms.

**Plain**, `{"__key__": ["Product", 1], "name": "x", "n": 1}`: what most programs write and read.
**Lossless**, `{"key": {...}, "properties": {"n": {"integerValue": "1"}}}`: the JSON form of the
API's `Entity` message, for what plain JSON cannot express (timestamps, blobs, keys, geo points,
unindexed properties, integers that other JSON readers would round).

An entity is written in the plain form if reading that form gives the same entity. A value read from
the plain form is indexed, unless it is a string too long for an index.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import isfinite, isnan, nan
from typing import Any, NoReturn

from google.protobuf import json_format

from bulkup.core.limits import MAX_INDEXED_BYTES
from bulkup.local import messages as m
from bulkup.local import v1_json
from bulkup.local.encoding import Partition

KEY_MEMBER = "__key__"
"""Member for the key of a plain line. Datastore reserves such names, so no property has it."""
_EXACT = 2**53
"""JSON readers that only have doubles are exact below this (RFC 8259)."""
_INT64 = 2**63


class LineError(ValueError):
    """A line is not an entity. The message says why, as the end of a sentence."""


class NoKindError(LineError):
    """The line has no key, and no kind was given."""


class LossError(ValueError):
    """An entity holds something that neither form of JSON can express."""


class _NotPlain(Exception):
    pass


# --- writing ---


def to_line(entity: Any, *, lossless: bool = False) -> tuple[str, bool]:
    """One line without its line end, and whether it is in the lossless form.

    Raises LossError rather than return a line that reads back as another entity.
    """
    if not lossless:
        try:
            return _dumps(_plain_entity(entity)), False
        except _NotPlain:
            pass
    return _dumps(lossless_form(entity)), True


def lossless_form(entity: Any) -> dict[str, Any]:
    """The JSON form of the API. Raises LossError rather than return a form that reads back as
    another entity."""
    usual = v1_json.usual_form(entity)
    if usual is not None:
        return usual
    try:
        form = v1_json.to_form(entity)
        back = v1_json.from_form(form)
    except (json_format.Error, ValueError) as error:
        raise LossError(str(error)) from error
    if not _same(back, entity):
        normalized = m.Entity()
        normalized.CopyFrom(entity)
        normalize_nans(normalized.properties.values())
        if not _same(back, normalized):
            raise LossError("it holds something that the JSON form of the API leaves out")
    return form


def _same(one: Any, other: Any) -> bool:
    return bool(
        one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
    )


def normalize_nans(values: Iterable[Any]) -> None:
    """Replace every NaN with the same one. Processors produce several, but JSON can express only
    one."""
    for pb in values:
        which = pb.WhichOneof("value_type")
        if which == "double_value" and isnan(pb.double_value):
            pb.double_value = nan
        elif which == "geo_point_value":
            for field, value in pb.geo_point_value.ListFields():
                if isnan(value):
                    setattr(pb.geo_point_value, field.name, nan)
        elif which == "array_value":
            normalize_nans(pb.array_value.values)
        elif which == "entity_value":
            normalize_nans(pb.entity_value.properties.values())


_encode = json.JSONEncoder(ensure_ascii=False).encode


def _dumps(form: dict[str, Any]) -> str:
    """Readable UTF-8 without characters that control a terminal (escapes, bidi overrides)."""
    line = _encode(form)
    return line if line.isprintable() else "".join(map(_visible, line))


def _visible(char: str) -> str:
    return char if char.isprintable() else json.dumps(char)[1:-1]


def _plain_entity(entity: Any) -> dict[str, Any]:
    path: list[Any] = []
    for element in entity.key.path:
        path += [element.kind, element.name or element.id]
        if abs(element.id) >= _EXACT:
            raise _NotPlain
    return {KEY_MEMBER: path, **_plain_properties(entity.properties)}


def _plain_properties(properties: Any) -> dict[str, Any]:
    # Sorted, so that equal entities are equal lines: a protobuf map has no stable order.
    return {name: _plain(properties[name]) for name in sorted(properties)}


def _plain(pb: Any) -> Any:
    which = pb.WhichOneof("value_type")
    if pb.meaning:
        raise _NotPlain
    if which == "string_value":
        if pb.exclude_from_indexes != _too_long(pb.string_value):
            raise _NotPlain
        return pb.string_value
    if pb.exclude_from_indexes:
        raise _NotPlain
    if which == "integer_value" and abs(pb.integer_value) < _EXACT:
        return pb.integer_value
    if which == "double_value" and isfinite(pb.double_value):
        return pb.double_value
    if which == "boolean_value":
        return pb.boolean_value
    if which == "null_value":
        return None
    if which == "array_value":
        if any(one.HasField("array_value") for one in pb.array_value.values):
            raise _NotPlain
        return [_plain(one) for one in pb.array_value.values]
    if which == "entity_value" and not pb.entity_value.HasField("key"):
        return _plain_properties(pb.entity_value.properties)
    raise _NotPlain


def _too_long(text: str) -> bool:
    """Whether a string is too long for an index."""
    return len(text) > MAX_INDEXED_BYTES // 4 and len(text.encode()) > MAX_INDEXED_BYTES


# --- reading ---


def from_line(line: bytes, place: Partition, *, kind: str = "", id_field: str = "") -> Any:
    """The Entity message of a line. Its key is in `place`, whatever the line says.

    A plain line without a key gets a key of kind `kind`, with the value of its member `id_field` as
    its id. If no `id_field` is given, that key is incomplete. Raises LineError.
    """
    try:
        form = _loads(line)
        if _is_lossless(form):
            entity = v1_json.from_form(form)
        else:
            entity = m.Entity()
            path = form.pop(KEY_MEMBER, None)
            if path is None:
                path = _path_of(form, kind, id_field)
            _fill_path(entity.key, path)
            _fill_properties(entity.properties, form)
    except RecursionError as error:
        raise LineError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise LineError("it holds half of a surrogate pair, which is not a character") from error
    except (json_format.Error, OverflowError) as error:
        raise LineError(f"it is not a valid entity of the API ({error})") from error
    within = entity.key.partition_id
    within.project_id, within.database_id, within.namespace_id = place
    return entity


def _loads(line: bytes) -> dict[str, Any]:
    try:
        form = json.loads(line.decode(), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise LineError(
            f"it is not JSON ({error.msg}, column {error.colno}); each line holds one whole object"
        ) from error
    except UnicodeDecodeError as error:
        raise LineError("it is not UTF-8") from error
    except LineError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise LineError(str(error)) from error
    if isinstance(form, list):
        raise LineError(
            "it is an array; write one object per line (`jq -c '.[]'` splits an array into lines)"
        )
    if not isinstance(form, dict):
        raise LineError("it is not an object")
    return form


def _refuse_constant(name: str) -> NoReturn:
    raise LineError(f"{name} is not JSON; use the lossless form with a doubleValue")


def _is_lossless(form: dict[str, Any]) -> bool:
    key = form.get("key")
    return isinstance(key, dict) and "path" in key and form.keys() <= {"key", "properties"}


_OR_A_KEY = (
    f'give it an id, or a "{KEY_MEMBER}" such as ["Order", 5], or move such lines to another file '
    "and load that without --id-field"
)


def _path_of(form: dict[str, Any], kind: str, id_field: str) -> list[Any]:
    if not kind:
        raise NoKindError("it has no key; use --kind to name its kind")
    if not id_field:
        return [kind]
    if id_field not in form:
        raise LineError(f"it has no {id_field!r}, which --id-field names; {_OR_A_KEY}")
    ident = form[id_field]
    if not _is_ident(ident):
        raise LineError(
            f"its {id_field!r} is neither an integer nor a string, so it is not an id; {_OR_A_KEY}"
        )
    return [kind, ident]


def _is_ident(ident: Any) -> bool:
    return isinstance(ident, (int, str)) and not isinstance(ident, bool)


def _fill_path(key: Any, path: Any) -> None:
    if not isinstance(path, list) or not path:
        raise LineError(f'its {KEY_MEMBER} is not a path such as ["Kind", 1]')
    for at in range(0, len(path), 2):
        kind, ident = path[at], path[at + 1] if at + 1 < len(path) else None
        if not isinstance(kind, str) or not (ident is None or _is_ident(ident)):
            raise LineError(
                "a key is a list of alternating kinds (strings) and ids (integers or strings)"
            )
        element = key.path.add(kind=kind)
        if isinstance(ident, str):
            element.name = ident
        elif ident is not None:
            element.id = _int64(ident)


def _fill_properties(properties: Any, form: dict[str, Any]) -> None:
    for name, value in form.items():
        _fill(properties[name], value)


def _fill(pb: Any, value: Any) -> None:
    if isinstance(value, str):
        pb.string_value = value
        if _too_long(value):
            pb.exclude_from_indexes = True
    elif isinstance(value, bool):
        pb.boolean_value = value
    elif isinstance(value, int):
        pb.integer_value = _int64(value)
    elif isinstance(value, float):
        if not isfinite(value):
            raise LineError("it holds a number too large for a double")
        pb.double_value = value
    elif value is None:
        pb.null_value = 0
    elif isinstance(value, list):
        pb.array_value.SetInParent()
        for one in value:
            if isinstance(one, list):
                raise LineError("it holds an array inside an array, which Datastore cannot store")
            _fill(pb.array_value.values.add(), one)
    else:
        pb.entity_value.SetInParent()
        _fill_properties(pb.entity_value.properties, value)


def _int64(value: int) -> int:
    if not -_INT64 <= value < _INT64:
        raise LineError("it holds an integer of more than 64 bits")
    return value
