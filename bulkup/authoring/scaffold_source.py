"""The source of a new updater and of its test.

Names of properties and kinds are data from somebody's Datastore. They enter the source as string
literals, or as names that Python reads as exactly the same string.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from bulkup.core.visible import is_visible

PLACEHOLDER_KIND = "YourKind"
"""No entity has this kind, so an updater that nobody has edited finds nothing to change."""

_MOST_PROPERTIES = 200
_OURS = {"bulkup", "Any", "GeoPoint", "Key", "NotRequired", "TypedDict", "datetime"}
"""The names that the source of an updater imports."""
_ABOUT = '"""Say here why this change is made."""\n'
_DATETIME = "from datetime import datetime"
_GOOGLE = (
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
        """The name of a property that no entity of the sample has, as a literal."""
        there = {one.name for one in self.sample.properties} if self.sample else set()
        name = "checked"
        while name in there:
            name += "_"
        return literal(name)


def source_of_updater(new: NewUpdater) -> str:
    handler = _class(new) if new.is_class else _function(new)
    if new.sample is None:
        return f"{_ABOUT}\nimport bulkup\n\n\n{handler}"
    count = new.sample.entities
    annotations = " ".join(_annotation(one, count) for one in _shown(new.sample))
    typing = [name for name in ("Any", "NotRequired") if _uses(annotations, name)]
    standard = [_DATETIME] if _uses(annotations, "datetime") else []
    standard.append(f"from typing import {', '.join([*typing, 'TypedDict'])}")
    google = [line for name, line in _GOOGLE if _uses(annotations, name)]
    imports = "\n".join([*standard, "", "import bulkup", *google])
    types = "\n".join(_types(new, new.sample))
    return f"{_ABOUT}\n{imports}\n\n\n{types}\n\n\n{handler}"


def _uses(annotations: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", annotations) is not None


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
    standard = [f"{_DATETIME}, timezone"] if "datetime(" in text else []
    standard.append("from pathlib import Path")
    others = ["from bulkup.testing import crash_test, run_updater"]
    others += [line for name, line in _GOOGLE if f"{name}(" in text]
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
    assert not result.warnings
    assert result.written == [AFTER]  # the other entity is done already


def test_it_survives_crashes_and_may_be_repeated():
    assert crash_test(UPDATER, [BEFORE]).idempotent
"""


# --- what a sample says ---


def _shown(sample: Sample) -> tuple[Property, ...]:
    return sample.properties[:_MOST_PROPERTIES]


def _types(new: NewUpdater, sample: Sample) -> Iterator[str]:
    """A comment that lists the properties, and a TypedDict of them."""
    shown, count = _shown(sample), sample.entities
    entities = "1 entity" if count == 1 else f"{count} entities"
    yield f"# What {entities} of this kind had when this file was written, and how many had it:"
    for one in shown:
        yield f"#   {literal(one.name)}: {one.type} ({one.count})"
    if more := len(sample.properties) - len(shown):
        yield f"#   and {more} more"
    yield "# With bulkup[typed] installed, a handler may take this type in place of an entity."
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
    # Nothing is known about a property that is always null.
    known = "Any" if one.type == "None" else one.type
    return f"NotRequired[{known}]" if one.count < entities else known


def _examples(sample: Sample) -> Iterator[str]:
    """Properties of an entity for a test: with the types that were found, but no real values."""
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
    """A string literal, readable where that is safe, and without invisible characters."""
    if is_visible(text) and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return ascii(text)


def _is_plain_name(name: str) -> bool:
    """Whether Python keeps a name in the body of a class as exactly this string: it mangles a name
    that begins with `__`, and replaces characters such as ligatures."""
    return (
        name.isidentifier()
        and not keyword.iskeyword(name)
        and not name.startswith("__")
        and is_visible(name)
        and unicodedata.normalize("NFKC", name) == name
    )


def class_name(name: str) -> str:
    """`AddFullName` for `add_full_name`."""
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
