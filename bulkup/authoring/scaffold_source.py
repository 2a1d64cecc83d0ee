"""The source of a new updater and of its test.

Names of properties and kinds are data of somebody's Datastore: they reach the source as string
literals, or as names that Python reads as the very same string.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from bulkup.core.visible import is_visible

PLACEHOLDER_KIND = "YourKind"
"""No entity is of it, so a run of an updater that nobody has edited finds nothing to change."""

_MOST_PROPERTIES = 200
_OURS = {"bulkup", "Any", "GeoPoint", "Key", "NotRequired", "TypedDict", "datetime", "timezone"}
"""What the source of an updater imports."""
_IMPORTS = (
    ("datetime", "from datetime import datetime"),
    ("Key", "from google.cloud.datastore import Key"),
    ("GeoPoint", "from google.cloud.datastore.helpers import GeoPoint"),
)
_EXAMPLES = {
    "None": "None",
    "bool": "True",
    "int": "1",
    "float": "1.5",
    "datetime": "datetime(2024, 1, 31, tzinfo=timezone.utc)",
    "Key": 'Key("Kind", 1, project="test")',
    "str": '"text"',
    "bytes": 'b"bytes"',
    "GeoPoint": "GeoPoint(1.5, 2.5)",
    "dict[str, Any]": "{}",
}


@dataclass(frozen=True)
class Property:
    name: str
    type: str
    """As in an annotation: `int | None`."""
    count: int
    """How many entities of the sample have it."""


@dataclass(frozen=True)
class Sample:
    """A few entities of a kind."""

    entities: int
    properties: tuple[Property, ...]


@dataclass(frozen=True)
class NewUpdater:
    name: str
    kind: str = PLACEHOLDER_KIND
    is_class: bool = False
    sample: Sample | None = None

    @property
    def change(self) -> str:
        """A property that no entity of the sample has, as a literal."""
        there = {one.name for one in self.sample.properties} if self.sample else set()
        name = "checked"
        while name in there:
            name += "_"
        return literal(name)


def source_of_updater(new: NewUpdater) -> str:
    parts = ['"""Say here why this change is made."""\n']
    sample = new.sample
    if sample is not None:
        types = " ".join(one.type for one in _shown(sample))
        names = {"TypedDict": True, "NotRequired": _some_are_missing(sample), "Any": "Any" in types}
        imports = [line for name, line in _IMPORTS if re.search(rf"\b{name}\b", types)]
        typing = ", ".join(sorted(name for name, is_used in names.items() if is_used))
        first = [line for line in imports if line.startswith("from datetime")]
        others = [line for line in imports if line not in first]
        parts.append("\n".join([*first, f"from typing import {typing}"]) + "\n")
        parts.append("\n".join(["import bulkup", *others]) + "\n")
        parts.append("\n" + "\n".join(_types(new, sample)) + "\n")
    else:
        parts.append("import bulkup\n")
    parts.append("\n" + (_class(new) if new.is_class else _function(new)))
    return "\n".join(parts)


def _function(new: NewUpdater) -> str:
    return f'''\
@bulkup.updater(kind={literal(new.kind)})
def {new.name}(entity):
    """Say here, in one line, what this changes."""
    entity[{new.change}] = True  # put your own change here
    return entity
'''


def _class(new: NewUpdater) -> str:
    return f'''\
class {class_name(new.name)}(bulkup.Updater):
    """Say here, in one line, what this changes."""

    def get_query(self):
        return self.client.query(kind={literal(new.kind)})

    def handle_entity(self, entity):
        entity[{new.change}] = True  # put your own change here
        self.put(entity)
'''


def source_of_test(new: NewUpdater, file: str) -> str:
    properties = ['    "name": "Ada",'] if new.sample is None else [*_examples(new.sample)]
    text = "\n".join(properties)
    standard = ["from datetime import datetime, timezone"] if "datetime(" in text else []
    standard.append("from pathlib import Path")
    others = ["from bulkup.testing import crash_test, run_updater"]
    others += [line for name, line in _IMPORTS[1:] if f"{name}(" in text]
    imports = "\n".join([*standard, "", *others])
    return f"""\
{imports}

UPDATER = Path(__file__).with_name({literal(file)})

BEFORE = {{
{text}
}}
AFTER = {{**BEFORE, {new.change}: True}}


def test_a_run_changes_what_it_should_and_nothing_else():
    result = run_updater(UPDATER, [BEFORE, AFTER])
    assert not result.failed
    assert result.written == [AFTER]  # the other entity is done already


def test_it_survives_crashes_and_may_be_repeated():
    assert crash_test(UPDATER, [BEFORE]).idempotent
"""


# --- what a sample says ---


def _shown(sample: Sample) -> tuple[Property, ...]:
    return sample.properties[:_MOST_PROPERTIES]


def _some_are_missing(sample: Sample) -> bool:
    return any(one.count < sample.entities for one in _shown(sample))


def _types(new: NewUpdater, sample: Sample) -> Iterator[str]:
    """A comment that lists the properties, and a TypedDict of them."""
    shown, count = _shown(sample), sample.entities
    entities = "1 entity" if count == 1 else f"{count} entities"
    yield f"# What {entities} of this kind had when this file was written, and how many had it:"
    for one in shown:
        yield f"#   {literal(one.name)}: {one.type} ({one.count})"
    if more := len(sample.properties) - len(shown):
        yield f"#   and {more} more"
    name = _type_name(new)
    if all(_is_plain_name(one.name) for one in shown):
        yield f"class {name}(TypedDict):"
        yield from [f"    {one.name}: {_annotation(one, count)}" for one in shown] or ["    pass"]
        return
    yield f"{name} = TypedDict("
    yield f'    "{name}",'
    yield "    {"
    yield from (f"        {literal(one.name)}: {_annotation(one, count)}," for one in shown)
    yield "    },"
    yield ")"


def _annotation(one: Property, entities: int) -> str:
    return f"NotRequired[{one.type}]" if one.count < entities else one.type


def _examples(sample: Sample) -> Iterator[str]:
    """Properties of an entity in a test: of the types that were found, and no values of anybody."""
    for one in _shown(sample):
        yield f"    {literal(one.name)}: {_example(one.type)},"


def _example(types: str) -> str:
    first = next((text for text in _alternatives(types) if text in _EXAMPLES), "")
    if first:
        return _EXAMPLES[first]
    element = types.removeprefix("list[").partition("]")[0]
    return f"[{_EXAMPLES[element]}]" if element in _EXAMPLES else "[]"


def _alternatives(types: str) -> list[str]:
    return types.split(" | ")


# --- names ---


def literal(text: str) -> str:
    """A string literal, readable where that is safe; without characters that nobody sees."""
    if is_visible(text) and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return ascii(text)


def _is_plain_name(name: str) -> bool:
    """Whether a name in the body of a class is the same string to Python: it would take a name
    that begins with `__` for a private one, and letters such as a ligature for others."""
    return (
        name.isidentifier()
        and not keyword.iskeyword(name)
        and not name.startswith("__")
        and is_visible(name)
        and unicodedata.normalize("NFKC", name) == name
    )


def class_name(name: str) -> str:
    """`AddFullName` of `add_full_name`."""
    camel = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    return _free(camel if camel.isidentifier() else f"Updater{camel}", _OURS)


def _type_name(new: NewUpdater) -> str:
    plain = re.sub(r"\W", "", new.kind, flags=re.ASCII)
    name = f"{plain}Properties" if plain[:1].isalpha() else "Properties"
    return _free(name, {*_OURS, new.name, class_name(new.name)})


def _free(name: str, taken: set[str]) -> str:
    while name in taken or keyword.iskeyword(name):
        name += "_"
    return name
