"""The common interface of all changes: call one, ask whether it is done, chain several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.cloud.datastore import Entity

from bulkup.core.errors import UsageError
from bulkup.core.limits import LimitError, check_property_name, is_long, is_reserved
from bulkup.core.visible import is_visible, visible
from bulkup.state.kinds import OWN_KINDS

_SHOWN_CHARS = 60
"""The most characters of a value that an error message shows."""


class Transform:
    """A change of one entity, made in place. Arguments that make no sense raise UsageError when it
    is created, so before an updater that has it at the top of its file handles anything."""

    def __call__(self, entity: Entity) -> Entity:
        """Change the entity, and return it. On one that is done this changes nothing.

        Raises ValueError, with the property's name, for an entity that it cannot be applied to.
        """
        raise NotImplementedError

    def is_done(self, entity: Entity) -> bool:
        """Whether calling it would change nothing: for `is_done=` of an updater."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Composed(Transform):
    transforms: tuple[Transform, ...]

    def __call__(self, entity: Entity) -> Entity:
        for transform in self.transforms:
            entity = transform(entity)
        return entity

    def is_done(self, entity: Entity) -> bool:
        return all(transform.is_done(entity) for transform in self.transforms)


def compose(*transforms: Transform) -> Transform:
    """One change that makes several, in this order. It is done when each of them is."""
    for transform in transforms:
        if not isinstance(transform, Transform):
            raise UsageError(
                f"compose takes changes such as rename(...), not a {type(transform).__name__}"
            )
    return _Composed(transforms)


def checked_name(argument: str, name: object) -> str:
    """The name of a property, if it can be one. Raises UsageError, which names the argument."""
    if not isinstance(name, str):
        raise UsageError(f"{argument} is the name of a property, not a {type(name).__name__}")
    try:
        check_property_name(name)
    except LimitError as error:
        raise UsageError(f"{argument}={visible(name)} cannot be a property: {error}") from None
    return name


def checked_names(argument: str, names: Sequence[object]) -> tuple[str, ...]:
    """Names of properties. Raises UsageError if there is none, or one twice."""
    if not names:
        raise UsageError(f"{argument} is empty; name at least one property")
    checked = tuple(checked_name(argument, name) for name in names)
    for name in checked:
        if checked.count(name) > 1:
            raise UsageError(f"{argument} has {visible(name)} twice; name it once")
    return checked


def checked_kind(argument: str, kind: object) -> str:
    """The name of a kind, if it can be one. Raises UsageError, which names the argument."""
    if not isinstance(kind, str) or not kind or is_long(kind) or is_reserved(kind):
        raise UsageError(f"{argument}={shown(kind)} cannot be the name of a kind")
    if kind in OWN_KINDS:
        raise UsageError(
            f"{argument}={kind} is a kind in which bulkup keeps its runs; name one of your own"
        )
    return kind


def shown(value: Any) -> str:
    """A value for an error message: short, and without control characters for a terminal."""
    try:
        readable = isinstance(value, str) and is_visible(value)
        text = repr(value) if readable else ascii(value)
    except Exception as error:
        return f"a {type(value).__name__} ({type(error).__name__} when shown)"
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
