"""The parameters of an updater, and their values from what a user types.

A function's parameters are its keyword-only arguments; a class's are its `param()` attributes,
inherited ones included.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from bulkup.authoring.conversion import (
    SUPPORTED,
    UnsupportedTypeError,
    ValueType,
    type_of_default,
    value_type,
)
from bulkup.authoring.param import MISSING, Param
from bulkup.authoring.text_form import NONE_TEXT, to_text, type_text
from bulkup.authoring.updater import Updater
from bulkup.core.errors import ParameterError, UsageError
from bulkup.core.user_traceback import error_line
from bulkup.core.visible import visible

__all__ = ["Parameter", "convert", "parameters_of", "parse_assignments", "to_text"]

_SHOWN_CHARS = 80
"""The most characters of a value that an error message shows."""


@dataclass(frozen=True)
class Parameter:
    name: str
    type: str
    """For people: `int`, `date | None`, `red | green`."""
    required: bool
    default: Any
    """A value of the type; `param.MISSING` when required."""
    help: str
    value_type: ValueType = field(repr=False, compare=False)
    attribute: str = ""
    """The attribute of the class, if its name is not the parameter's; otherwise empty."""

    @property
    def form(self) -> str:
        """What a valid string looks like: `a date such as 2024-01-31`."""
        return self.value_type.form

    @property
    def default_text(self) -> str:
        """The default as a user would type it; empty when required."""
        return "" if self.required else to_text(self.default)


class HasParameters(Protocol):
    """What `convert` needs of an `UpdaterSource`."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> tuple[Parameter, ...]: ...


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """Turn `["sep=-"]`, the values of `-p`, into `{"sep": "-"}`. Raises ParameterError."""
    texts: dict[str, str] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ParameterError(f"{_shown(assignment)} has no value; write -p NAME=VALUE")
        if not name:
            raise ParameterError(f"{_shown(assignment)} has no parameter name; write -p NAME=VALUE")
        if name in texts:
            raise ParameterError(f"parameter {_shown(name)} is given twice; give it once")
        texts[name] = text
    return texts


def convert(
    source: HasParameters, values: Mapping[str, Any], *, prefix: str = "", also: str = ""
) -> dict[str, Any]:
    """The value of every parameter of `source`: the given ones, and the defaults of the others.

    A str is parsed, as after `-p`; anything else must already have the parameter's type. To get the
    same values again, even if the defaults in the source change, store `{name: to_text(value)}` of
    the result and convert that. `prefix`: what to type before a name after `-p`, if anything.
    `also`: what else the user has to type, listed with the missing parameters.
    Raises ParameterError for an unknown name, a missing value or one that is not valid.
    """
    known = {parameter.name: parameter for parameter in source.parameters}
    for name in values:
        if name not in known:
            raise _unknown(source.name, name, list(known))
    missing = [p for p in source.parameters if p.required and p.name not in values]
    if missing:
        wanted = [f"-p {prefix}{p.name}=... ({p.form})" for p in missing]
        raise ParameterError(f"{source.name} needs {', '.join([also] * bool(also) + wanted)}")
    return {
        name: _value(parameter, values[name]) if name in values else _copied(parameter.default)
        for name, parameter in known.items()
    }


def parameters_of(definition: type[Updater] | Callable[..., Any]) -> tuple[Parameter, ...]:
    """The parameters of an updater class or decorated function, in source order.

    Raises ParameterError for an unsupported type or a default that is not of the type, UsageError
    for an argument that is neither the entity nor keyword-only.
    """
    if isinstance(definition, type):
        return tuple(_of_class(definition))
    return tuple(_of_function(definition))


def _of_class(cls: type[Updater]) -> Iterable[Parameter]:
    # The first definition in the MRO counts: a subclass may replace a parameter with a fixed value.
    names = dict.fromkeys(
        name
        for base in reversed(cls.__mro__)
        for name, value in vars(base).items()
        if isinstance(value, Param)
    )
    attributes: dict[str, str] = {}
    for name in names:
        declared = inspect.getattr_static(cls, name)
        if not isinstance(declared, Param):
            continue
        if declared.name in attributes:
            raise ParameterError(
                f"{cls.__name__} has two parameters {declared.name!r}, {attributes[declared.name]} "
                f"and {name}; rename one"
            )
        attributes[declared.name] = name
        if name not in (
            "max_failures",
            "rewrite_unchanged",
            "allow_unwritten_changes",
            "concurrency",
        ) and (hasattr(Updater, name) or name in _DECLARED):
            raise ParameterError(
                f"{cls.__name__} cannot have a parameter {name!r}, because every updater has an "
                "attribute of that name; rename it"
            )
        parameter = _parameter(
            cls.__name__, declared.name, _class_annotation(cls, name), declared.default,
            declared.help,
        )  # fmt: skip
        yield replace(parameter, attribute="" if declared.name == name else name)


_DECLARED = {name for base in Updater.__mro__ for name in inspect.get_annotations(base)}
"""The attributes that every updater has, but that have no value in the class."""


def _class_annotation(cls: type, name: str) -> Any:
    """The annotation in the user's own classes: Updater's own may have more than one type."""
    for base in cls.__mro__:
        if base is Updater:
            break
        try:
            annotations = inspect.get_annotations(base)
        except Exception as exc:
            raise _unresolved(base.__name__, name, "annotations", exc) from exc
        if name in annotations:
            module = sys.modules.get(base.__module__)
            return _resolved(
                cls.__name__, name, annotations[name], vars(module) if module else {}, vars(base)
            )
    return MISSING


def _of_function(function: Callable[..., Any]) -> Iterable[Parameter]:
    shown = getattr(function, "__name__", "the updater function")
    inner: Any = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    arguments = list(inspect.signature(function).parameters.values())
    _check_arguments(shown, arguments)
    for argument in arguments[1:]:
        annotation: Any = MISSING
        if argument.annotation is not argument.empty:
            annotation = _resolved(
                shown, argument.name, argument.annotation, getattr(inner, "__globals__", {}), {}
            )
        default = MISSING if argument.default is argument.empty else argument.default
        yield _parameter(shown, argument.name, annotation, default, "")


def _check_arguments(shown: str, arguments: Sequence[inspect.Parameter]) -> None:
    if not arguments or arguments[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise UsageError(
            f"{shown} has no argument for the entity; write def {shown}(entity), and the "
            "parameters after a star: (entity, *, name)"
        )
    for argument in arguments[1:]:
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            raise UsageError(
                f"{shown} takes {argument}, which cannot become parameters; list them by name: "
                "(entity, *, name)"
            )
        if argument.kind is not argument.KEYWORD_ONLY:
            raise UsageError(
                f"argument {argument.name!r} of {shown} must be keyword-only to be a parameter; "
                f"put a star before it: (entity, *, {argument.name})"
            )


def _resolved(
    owner: str,
    name: str,
    annotation: Any,
    global_names: Mapping[str, Any],
    local_names: Mapping[str, Any],
) -> Any:
    """The type of an annotation that may be a string, or contain strings.

    Resolves one name at a time, since only a type checker may be able to resolve the others.
    """
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    try:
        hints = typing.get_type_hints(
            holder, dict(global_names), dict(local_names), include_extras=True
        )
    except Exception as exc:
        raise _unresolved(owner, name, type_text(annotation), exc) from exc
    return hints[name]


def _unresolved(owner: str, name: str, annotation: str, exc: Exception) -> ParameterError:
    return ParameterError(
        f"the annotation {_shown(annotation)} of parameter {name!r} of {owner} cannot be resolved "
        f"({error_line(exc)}); import its types at the top of the file, not only under "
        "`if TYPE_CHECKING`"
    )


def _parameter(owner: str, name: str, annotation: Any, default: Any, help_text: str) -> Parameter:
    if annotation is MISSING:
        annotation = str if default is MISSING else type_of_default(default)
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, str):
            help_text = help_text or extra
    try:
        converts = value_type(annotation)
        if default is None and not converts.name.endswith("| None"):
            converts = value_type(typing.Optional[annotation])  # noqa: UP045  (may be a str on 3.10)
    except UnsupportedTypeError as exc:
        raise ParameterError(
            f"parameter {name!r} of {owner} has the unsupported type {exc}; use one of {SUPPORTED}"
        ) from exc
    value = MISSING if default is MISSING else _default(owner, name, converts, default)
    return Parameter(name, converts.name, default is MISSING, value, help_text, converts)


def _default(owner: str, name: str, converts: ValueType, default: Any) -> Any:
    """The default as a value of the type: `cutoff: date = "2024-01-31"` is a date."""
    for read in (converts.fit, converts.parse) if isinstance(default, str) else (converts.fit,):
        try:
            value = read(default)
            to_text(value)
        except (ValueError, TypeError):
            continue
        return value
    raise ParameterError(
        f"the default {_shown(default)} of parameter {name!r} of {owner} is not of its type "
        f"{converts.name}; use {converts.form}"
    )


def _value(parameter: Parameter, given: Any) -> Any:
    read = parameter.value_type.parse if isinstance(given, str) else parameter.value_type.fit
    try:
        value = read(given)
    except (ValueError, TypeError) as exc:
        hint = f" (@{NONE_TEXT} is the string {NONE_TEXT})" if given == NONE_TEXT else ""
        if isinstance(given, str) and not given.strip():
            hint = "; is a variable of your shell not set?"
        raise ParameterError(
            f"{parameter.name}={_shown(given)} is not valid; "
            f"parameter {parameter.name!r} takes {parameter.form}{hint}"
        ) from exc
    try:
        to_text(value)
    except (ValueError, TypeError) as exc:
        # A run that cannot store its parameters could not be resumed.
        raise ParameterError(
            f"{parameter.name}={_shown(given)} cannot be stored with the run ({exc}); "
            f"parameter {parameter.name!r} takes {parameter.form}"
        ) from exc
    return value


def _copied(default: Any) -> Any:
    """Copy a list, so that an updater that changes it does not change the default."""
    return list(default) if isinstance(default, list) else default


def _unknown(owner: str, name: object, known: list[str]) -> ParameterError:
    if not known:
        return ParameterError(f"{owner} takes no parameters; leave out {_shown(name)}")
    close = difflib.get_close_matches(str(name), known, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else "; its parameters are: "
    return ParameterError(
        f"{owner} has no parameter {_shown(name)}{meant}{'' if close else ', '.join(known)}"
    )


def _shown(value: object) -> str:
    try:
        text = visible(value) if isinstance(value, str) else ascii(value)
    except Exception as exc:
        text = f"a {type(value).__name__} ({type(exc).__name__} when shown)"
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
