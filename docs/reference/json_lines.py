"""The tables of docs/json.md, from the schema that the package ships."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from itertools import starmap
from typing import Any

from docs.reference.text import Missing, cell, table

Schema = dict[str, Any]

HEADERS = ("field", "type", "")


def schema() -> Schema:
    text = files("bulkup.report").joinpath("schema.json").read_text(encoding="utf-8")
    loaded: Schema = json.loads(text)
    return loaded


def json_lines() -> str:
    """Two sections: the types of lines, and the objects that they hold."""
    return "\n\n".join(["## Types of lines", *_lines(), "## Objects inside lines", *_objects()])


def _lines() -> Iterator[str]:
    whole = schema()
    for name in whole["properties"]["type"]["enum"]:
        yield from _described(f"### `{name}`", whole["$defs"][f"line_{name}"])


def _objects() -> Iterator[str]:
    for name, part in schema()["$defs"].items():
        if not name.startswith("line_"):
            yield from _described(f"### {name}", part)


def _described(heading: str, part: Schema) -> Iterator[str]:
    if not part.get("description"):
        raise Missing(f"bulkup/report/schema.json: {heading.strip('# `')} has no description")
    yield heading
    yield part["description"]
    for one in part.get("anyOf", [part]):
        fields = one.get("properties", {})
        if one is not part and fields:
            yield one["description"]
            fields = _beyond_a_summary(fields)
        if fields:
            yield table(HEADERS, (_row(name, field) for name, field in fields.items()))


def _beyond_a_summary(fields: Schema) -> Schema:
    """What a line has that says it has the fields of a summary, too."""
    summary = schema()["$defs"]["line_summary"]
    if not set(summary["required"]) <= fields.keys():
        return fields
    return {name: field for name, field in fields.items() if name not in summary["properties"]}


def _row(name: str, field: Schema) -> tuple[str, str, str]:
    return f"`{name}`", _type(field), cell(_description(field))


def _description(field: Schema) -> str:
    """What the field is and, of objects without a name, what they have."""
    items = field.get("items", field)
    said = str(field.get("description") or items.get("description", ""))
    members = items.get("properties", {})
    if not members:
        return said
    has = "Each has" if "items" in field else "It has"
    return f"{said} {has} {', '.join(starmap(_member, members.items()))}.".strip()


def _member(name: str, field: Schema) -> str:
    said = str(field.get("description", ""))
    said = said if said.endswith("...") else said.removesuffix(".")
    if members := field.get("items", {}).get("properties"):
        said += f": {', '.join(f'`{one}`' for one in members)}"
    return f"`{name}` ({said[:1].lower()}{said[1:]})" if said else f"`{name}`"


def _type(field: Schema) -> str:
    if "$ref" in field:
        target: str = field["$ref"].rpartition("/")[2].removeprefix("line_")
        return f"[{target}](#{target})"
    if "enum" in field:
        return ", ".join("null" if one is None else f"`{one}`" for one in field["enum"])
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"])
    kind = field.get("type", "")
    if kind == "array":
        items = field.get("items", {})
        plural = "objects" if items.get("type") == "object" else _type(items)
        return f"list of {plural}" if plural else "list"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
