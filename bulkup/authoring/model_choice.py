"""Of which type the objects are that an updater's handler takes; None: it takes entities.

def fix(person: Person)              a function: its annotation
class Fix(Updater[Person])           a class
kind = Person                        in a class, or of the decorator: an ndb model
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

from bulkup.authoring.function_updater import FunctionUpdater, is_ndb_model
from bulkup.authoring.model_adapter import ModelAdapter
from bulkup.authoring.text_form import type_text
from bulkup.authoring.updater import Updater
from bulkup.core.errors import UsageError


def adapter_for(updater: Updater[Any], name: str) -> ModelAdapter | None:
    """`name`: of the updater. Raises UsageError."""
    declared = None
    kind = updater.spec.kind if isinstance(updater, FunctionUpdater) else _class_kind(updater)
    if is_ndb_model(kind):
        model = declared = kind
    elif isinstance(updater, FunctionUpdater):
        model = _annotated(updater.function, 0)
    else:
        declared = type_argument(type(updater))
        model = declared or _annotated(getattr(type(updater), updater._form), 1)
    if updater._form == "handle_batch" and typing.get_origin(model) in (list, Sequence, Iterable):
        (model,) = typing.get_args(model)
    make = _maker(model)
    if make is None and declared is not None and not _is_entity(declared):
        raise UsageError(
            f"{name} is for {type_text(declared)}, and an entity is none; name a dataclass, an "
            "attrs class, a TypedDict, a pydantic model or an ndb model in Updater[...]"
        )
    return None if make is None else make(model)


def _class_kind(updater: Updater[Any]) -> Any:
    return getattr(type(updater), "kind", None)


def _maker(model: Any) -> Callable[[Any], ModelAdapter] | None:
    if not isinstance(model, type):
        return None
    if is_ndb_model(model):
        from bulkup.authoring.ndb_models import NdbModels

        return NdbModels
    pydantic = sys.modules.get("pydantic")
    bases = tuple(
        base
        for module in (pydantic, sys.modules.get("pydantic.v1"))
        if isinstance(base := getattr(module, "BaseModel", None), type)
    )
    if issubclass(model, bases):
        from bulkup.authoring.pydantic_models import PydanticModels

        return PydanticModels
    if (
        dataclasses.is_dataclass(model)
        or typing.is_typeddict(model)
        or hasattr(model, "__attrs_attrs__")
    ):
        return _typed
    return None


def _typed(model: type) -> ModelAdapter:
    if find_spec("cattrs") is None:
        raise UsageError(
            f"bulkup needs cattrs to make a {model.__name__} of an entity: "
            "pip install 'bulkup[typed]'"
        )
    from bulkup.authoring.typed_models import TypedModels

    return TypedModels(model)


def _is_entity(model: Any) -> bool:
    from google.cloud.datastore import Entity

    return model is Any or (isinstance(model, type) and issubclass(Entity, model))


def type_argument(cls: type) -> Any:
    """`Person` of `class Fix(Updater[Person])`."""
    for base in cls.__mro__:
        for generic in vars(base).get("__orig_bases__", ()):
            origin = typing.get_origin(generic)
            if isinstance(origin, type) and issubclass(origin, Updater):
                argument = typing.get_args(generic)[0]
                if not isinstance(argument, typing.TypeVar):
                    return _resolved(argument, vars(sys.modules[base.__module__]))
    return None


def _annotated(function: Any, position: int) -> Any:
    """The annotation of an argument; None: there is none, or only a type checker knows it."""
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    arguments = list(inspect.signature(function).parameters.values())
    if len(arguments) <= position or arguments[position].annotation is inspect.Parameter.empty:
        return None
    return _resolved(arguments[position].annotation, getattr(inner, "__globals__", {}))


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, dict(names))["it"]
    except Exception:  # a name that is imported under `if TYPE_CHECKING` only, as Entity often is
        return None
