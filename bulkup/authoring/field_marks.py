"""Annotations that mark a field of a model class: `key: EntityKey`, `bio: Unindexed[str]`."""

from __future__ import annotations

import types
import typing
from functools import cache
from typing import Annotated, Any, TypeVar

from google.cloud.datastore import Key

from bulkup.core.errors import UsageError

T = TypeVar("T")

_TRANSPARENT = (typing.Union, types.UnionType, typing.Required, typing.NotRequired)


class _KeyMark:
    """Marks the field, and tells pydantic how to check it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(Key)


class _UnindexedMark:
    pass


_KEY = _KeyMark()
_UNINDEXED = _UnindexedMark()

EntityKey = Annotated[Key, _KEY]
"""The type of the field that holds the entity's key, which is not a property:

    @dataclass
    class Person:
        key: bulkup.EntityKey
        name: str
"""

Unindexed = Annotated[T, _UNINDEXED]
"""The type of a field whose property is not indexed when the handler adds it: `bio:
bulkup.Unindexed[str]`. A property that is there keeps the index flag that it has.
"""


def key_field(model: Any) -> str | None:
    """The name of the field whose type is `EntityKey`; None if there is none. Raises UsageError."""
    marked = _marked(model, _KEY)
    if len(marked) > 1:
        raise UsageError(
            f"{model.__name__} has several fields for the entity's key: {', '.join(marked)}; mark "
            "one of them as EntityKey, and the others as Key"
        )
    return marked[0] if marked else None


def unindexed_fields(model: Any) -> tuple[str, ...]:
    return _marked(model, _UNINDEXED)


@cache
def _marked(model: Any, mark: Any) -> tuple[str, ...]:
    """The names of the fields with this mark. Raises UsageError."""
    try:
        hints = typing.get_type_hints(model, include_extras=True)
    except Exception as error:
        raise UsageError(
            f"the annotations of {model.__name__} cannot be resolved ({error}); import its types "
            "at the top of the file, not only under `if TYPE_CHECKING`"
        ) from error
    return tuple(name for name, hint in hints.items() if _is_marked(hint, mark))


def _is_marked(hint: Any, mark: Any) -> bool:
    if any(one is mark for one in getattr(hint, "__metadata__", ())):
        return True
    # Look inside `EntityKey | None`, but not inside `list[EntityKey]`.
    looks_inside = typing.get_origin(hint) in _TRANSPARENT
    return looks_inside and any(_is_marked(part, mark) for part in typing.get_args(hint))
