"""Attributes that a handler has set on an object whose type has no such field: `person.nikc = ""`.

They would be lost. Some attributes are allowed without a field: those that the class or one of its
methods names (`__post_init__`, a cached property), and those that begin with an underscore.
"""

from __future__ import annotations

import inspect
import typing
from functools import cache
from typing import Any

from bulkup.core.places import about


def check_no_stray(model: Any) -> None:
    """Raise TypeError for an attribute that is not a field of the object's type."""
    attributes = getattr(model, "__dict__", None)
    if not attributes:
        return
    class_: Any = type(model)
    for name in attributes.keys() - _own_names(class_):
        if not name.startswith("_"):
            type_ = class_.__name__
            raise about(
                TypeError(
                    f"the attribute {name!r} was set, but {type_} has no such field, so it is not "
                    f"stored; add it to {type_}, or name it _{name} if it is not to be stored"
                ),
                name,
            )


@cache
def _own_names(type_: Any) -> frozenset[str]:
    names = {*dir(type_), *typing.get_type_hints(type_)}
    for class_ in type_.__mro__:
        for member in vars(class_).values():
            code = getattr(inspect.unwrap(member), "__code__", None) if callable(member) else None
            names.update(code.co_names if code is not None else ())
    return frozenset(names)
