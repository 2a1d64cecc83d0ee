"""How a model class says which of its fields is the entity's key."""

from __future__ import annotations

import typing
from functools import cache
from typing import Annotated, Any

from google.cloud.datastore import Key

from bulkup.core.errors import UsageError


class _Mark:
    """Marks the field, and tells pydantic how to check it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(Key)


_MARK = _Mark()

EntityKey = Annotated[Key, _MARK]
"""The type of the field that holds the entity's key, which is no property:

    @dataclass
    class Person:
        key: bulkup.EntityKey
        name: str
"""


def key_field(model: Any) -> str | None:
    """The name of the field whose type is `EntityKey`; None: there is none. Raises UsageError."""
    return _key_field(model)


@cache
def _key_field(model: Any) -> str | None:
    try:
        hints = typing.get_type_hints(model, include_extras=True)
    except Exception as error:
        raise UsageError(
            f"the annotations of {model.__name__} cannot be resolved ({error}); import its types "
            "at the top of the file, not only under `if TYPE_CHECKING`"
        ) from error
    marked = [name for name, hint in hints.items() if _is_marked(hint)]
    if len(marked) > 1:
        raise UsageError(
            f"{model.__name__} has several fields for the entity's key: {', '.join(marked)}; mark "
            "one of them as EntityKey, and the others as Key"
        )
    return marked[0] if marked else None


def _is_marked(hint: Any) -> bool:
    if any(one is _MARK for one in getattr(hint, "__metadata__", ())):
        return True
    return any(_is_marked(part) for part in typing.get_args(hint) if typing.get_args(part))
