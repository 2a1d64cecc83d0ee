"""The proto3 JSON form of `google.datastore.v1.Entity`: protobuf's own, in a stable order."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format

from bulkup.local import messages as m


def to_form(entity: Any) -> dict[str, Any]:
    """Raises ValueError or `json_format.Error` for what JSON cannot say, such as a timestamp out
    of range."""
    form: dict[str, Any] = json_format.MessageToDict(entity)
    _sort_properties(form)
    return form


def from_form(form: dict[str, Any]) -> Any:
    """The Entity message. Raises `json_format.ParseError` for a form that is not one."""
    try:
        return json_format.ParseDict(form, m.Entity())
    except SystemError as error:  # protobuf's answer to a name with half a surrogate pair
        raise json_format.ParseError("a name is not valid UTF-8") from error


def _sort_properties(form: dict[str, Any]) -> None:
    """Sort the properties of an entity by name, nested ones too: the order of a protobuf map is
    arbitrary, and equal entities must be equal lines."""
    properties = form.get("properties")
    if properties is None:
        return
    form["properties"] = dict(sorted(properties.items()))
    for value in properties.values():
        _sort_value(value)


def _sort_value(value: dict[str, Any]) -> None:
    if "entityValue" in value:
        _sort_properties(value["entityValue"])
    for element in value.get("arrayValue", {}).get("values", ()):
        _sort_value(element)
