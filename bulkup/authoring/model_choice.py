"""Finds the type of the objects that an updater's handler takes, if it does not take entities.

A type that an entity neither is nor can be converted to is refused: the handler would be given an
object of another type than it declares.

def fix(person: Person)              a function: its annotation
class Fix(Updater[Person])           a class: its type argument
kind = Person                        an ndb model, in a class or in the decorator
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from bulkup.authoring.function_updater import FunctionUpdater, is_ndb_model
from bulkup.authoring.model_adapter import ModelAdapter
from bulkup.authoring.text_form import type_text
from bulkup.authoring.updater import Updater
from bulkup.core.errors import BulkupError, UsageError
from bulkup.core.hidden_modules import hiding_file
from bulkup.core.user_traceback import error_line

MODELS = "a dataclass, an attrs class, a TypedDict, a pydantic model or an ndb model"


class _Unresolved(NamedTuple):
    """An annotation with a name that is not defined when the updater runs."""

    text: str


class _Argument(NamedTuple):
    """The first argument of a handler. `annotation` is None if it has none."""

    name: str
    annotation: Any


def adapter_for(updater: Updater[Any], name: str) -> ModelAdapter | None:
    """The adapter for the models that the handler takes; None if it takes entities.

    `name`: the updater's name. Raises UsageError.
    """
    declared = argument = None
    kind = updater.spec.kind if isinstance(updater, FunctionUpdater) else _class_kind(updater)
    if is_ndb_model(kind):
        model = declared = kind
    elif isinstance(updater, FunctionUpdater):
        argument = _argument(updater.function, 0)
        model = argument.annotation
    else:
        model = declared = type_argument(type(updater))
        if declared is None:
            argument = _argument(getattr(type(updater), updater._form), 1)
            model = argument.annotation
    is_batch = updater._form == "handle_batch"
    if is_batch:
        model = _of_each(model)
    make = _maker(model)
    if make is not None:
        return _made(make, model)
    if declared is not None and not isinstance(declared, _Unresolved) and not _is_entity(declared):
        raise UsageError(
            f"{name} is for {type_text(declared)}, and an entity is not one; name {MODELS} in "
            "Updater[...]"
        )
    if not _may_be_entity(model):
        raise UsageError(_refusal(name, argument, model, is_batch))
    return None


def _made(make: Callable[[Any], ModelAdapter], model: Any) -> ModelAdapter:
    """Make an adapter, which imports the library that converts models. Raises UsageError."""
    try:
        return make(model)
    except BulkupError:
        raise
    except Exception as error:
        hiding = hiding_file()
        if not hiding:
            raise
        raise UsageError(
            f"models of {type_text(model)} cannot be made ({error_line(error)}): {hiding}"
        ) from error


def _refusal(name: str, argument: _Argument | None, model: Any, is_batch: bool) -> str:
    if isinstance(model, _Unresolved):
        where = f"Updater[...] of {name}" if argument is None else f"{argument.name} in {name}"
        return (
            f"the type {model.text} of {where} is not known when the updater runs; import it at "
            "the top of the file, outside `if TYPE_CHECKING:`, or write Entity"
        )
    assert argument is not None
    entity = "list[Entity]" if is_batch else "Entity"
    return (
        f"{argument.name} in {name} is annotated as {type_text(model)}, which an entity is not; "
        f"write {argument.name}: {entity}, or name {MODELS}"
    )


def _of_each(annotation: Any) -> Any:
    """The type of a list's elements: `Person` for `list[Person]`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(origin, type) and issubclass(list, origin) and len(arguments) == 1:
        return arguments[0]
    return None if isinstance(annotation, type) and issubclass(list, annotation) else annotation


def _may_be_entity(model: Any) -> bool:
    """Whether a handler with this annotation can be given an entity. False only for what is
    certainly another type, so not for a type variable or a protocol."""
    if isinstance(model, _Unresolved):  # Entity is often imported under `if TYPE_CHECKING` only
        return "Entity" in model.text
    origin = typing.get_origin(model)
    if origin in (typing.Union, types.UnionType):
        return any(map(_may_be_entity, typing.get_args(model)))
    model = origin or model
    if not isinstance(model, type) or getattr(model, "_is_protocol", False):
        return True
    return _is_entity(model) or issubclass(model, Mapping)


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
    """The type argument of an updater class: `Person` for `class Fix(Updater[Person])`."""
    for base in cls.__mro__:
        for generic in vars(base).get("__orig_bases__", ()):
            origin = typing.get_origin(generic)
            if isinstance(origin, type) and issubclass(origin, Updater):
                argument = typing.get_args(generic)[0]
                if not isinstance(argument, typing.TypeVar):
                    return _resolved(argument, vars(sys.modules[base.__module__]))
    return None


def _argument(function: Any, position: int) -> _Argument:
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    arguments = list(inspect.signature(function).parameters.values())[position:]
    if not arguments or arguments[0].annotation is inspect.Parameter.empty:
        return _Argument("", None)
    first = arguments[0]
    if first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        return _Argument("", None)
    return _Argument(first.name, _resolved(first.annotation, getattr(inner, "__globals__", {})))


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, dict(names))["it"]
    except Exception:
        if isinstance(annotation, typing.ForwardRef):
            annotation = annotation.__forward_arg__
        return _Unresolved(annotation if isinstance(annotation, str) else type_text(annotation))
