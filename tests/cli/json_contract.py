"""Whether lines of `--json` are what the schema in the package says, and all of what it says."""

from __future__ import annotations

import functools
from typing import Any

from jsonschema import Draft202012Validator

from bulkup.report.json_lines import schema


@functools.cache
def strict_validator() -> Draft202012Validator:
    """The schema, which here allows no field that it does not describe."""
    closed = _closed(schema())
    # The fields that all lines have are described once, at the top.
    closed["unevaluatedProperties"] = False
    for name, line in closed["$defs"].items():
        if name.startswith("line_"):
            for part in line.get("anyOf", [line]):
                part.pop("unevaluatedProperties", None)
    return Draft202012Validator(closed)


def _closed(part: Any) -> Any:
    if isinstance(part, list):
        return [_closed(one) for one in part]
    if not isinstance(part, dict):
        return part
    closed = {name: _closed(one) for name, one in part.items()}
    if "properties" in closed and "required" in closed and closed.get("type") == "object":
        closed.setdefault("unevaluatedProperties", False)
    return closed


def keeps_the_contract(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        errors = [error.message for error in strict_validator().iter_errors(line)]
        assert not errors, (line, errors)
