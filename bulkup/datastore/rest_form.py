"""Values as JSON, in the form of Datastore's REST API: the lossless form of `bulkup local dump`."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format

from bulkup.datastore.lazy_entity import LazyEntity, read_message
from bulkup.datastore.messages import Pb


def changed_values(
    before: LazyEntity, after: Pb, name: str
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """A property before and after a write; None where it is absent."""
    old, new = read_message(before).properties, after.properties
    return (
        value_form(old[name]) if name in old else None,
        value_form(new[name]) if name in new else None,
    )


def value_form(pb: Pb) -> dict[str, Any] | None:
    """`{"integerValue": "5"}`; None for what JSON cannot express, such as a timestamp that is out
    of range."""
    try:
        form: dict[str, Any] = json_format.MessageToDict(pb)
    except (json_format.Error, ValueError):
        return None
    _sort(form)
    return form


def _sort(form: dict[str, Any]) -> None:
    """Sort properties by name, nested ones too: the order of a protobuf map is arbitrary."""
    nested = form.get("entityValue")
    if nested is not None and "properties" in nested:
        nested["properties"] = dict(sorted(nested["properties"].items()))
        for value in nested["properties"].values():
            _sort(value)
    for element in form.get("arrayValue", {}).get("values", ()):
        _sort(element)
