"""The values of one property on one side, added up in memory that does not grow with them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bulkup.core.rehearsal import ValueSummary
from bulkup.datastore.entity_compare import ABSENT
from bulkup.datastore.entity_diff import TEXT_WIDTH, value_text
from bulkup.datastore.messages import Pb
from bulkup.engine.planning.change_kinds import type_of

MOST_VALUES = 1000
"""How many values are told apart. If there are more, nearly every entity has its own."""
MOST_SHOWN = 3
_MAX_TEXT = 60
"""Characters of a value in a summary."""


class Values:
    """Adds up the values of one property as they come."""

    def __init__(self) -> None:
        self._types: Counter[str] = Counter()
        self._values: dict[bytes, list[Any]] | None = {}
        """By a value's bytes, or their hash: how often it occurs, and the value as text. None: too
        many values."""
        self._bounds: tuple[str, Any, Any] | None = None
        """The type, the least value, and the greatest."""
        self._compares = True

    def add(self, value: Pb | None) -> None:
        """None: the entity does not have the property."""
        self._types[type_of(value) or ABSENT] += 1
        if value is None:
            return
        self._note(value)
        self._bound(value)

    def _note(self, value: Pb) -> None:
        if self._values is None:
            return
        raw: bytes = value.SerializeToString(deterministic=True)
        key = raw if len(raw) <= 64 else hash(raw).to_bytes(9, "big", signed=True)
        found = self._values.get(key)
        if found is not None:
            found[0] += 1
        elif len(self._values) == MOST_VALUES:
            self._values = None
        else:
            self._values[key] = [1, _short(value_text(value))]

    def _bound(self, value: Pb) -> None:
        if not self._compares:
            return
        compared = _comparable(value)
        if compared is None:
            self._compares, self._bounds = False, None
            return
        name, content = compared
        if self._bounds is None:
            self._bounds = name, (content, value), (content, value)
            return
        kind, least, greatest = self._bounds
        if kind != name:
            self._compares, self._bounds = False, None
            return
        if content < least[0]:
            least = content, value
        if content > greatest[0]:
            greatest = content, value
        self._bounds = kind, least, greatest

    def summary(self) -> ValueSummary:
        types = sorted(self._types.items(), key=lambda one: (-one[1], one[0]))
        values = self._values
        common: list[tuple[str, int]] = []
        if values:
            repeated = sorted(values.values(), key=lambda one: -one[0])
            if repeated[0][0] > 1 or len(repeated) <= MOST_SHOWN:
                common = [(text, count) for count, text in repeated[:MOST_SHOWN]]
        least = greatest = None
        if self._bounds is not None:
            least, greatest = (_short(value_text(end[1])) for end in self._bounds[1:])
        return ValueSummary(
            tuple(types), None if values is None else len(values), tuple(common), least, greatest
        )


def _short(text: str) -> str:
    width = min(_MAX_TEXT, TEXT_WIDTH)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _comparable(value: Pb) -> tuple[str, Any] | None:
    which = value.WhichOneof("value_type")
    if which in ("integer_value", "double_value"):
        number = getattr(value, which)
        return None if number != number else ("number", number)
    if which == "string_value":
        return "string", value.string_value
    if which == "timestamp_value":
        stamp = value.timestamp_value
        return "timestamp", (stamp.seconds, stamp.nanos)
    return None
