"""Parameters of updater classes, as users declare them."""

from __future__ import annotations

from typing import Any

MISSING: Any = object()
"""The default of a parameter that has none."""


class Param:
    """A parameter of an updater class, declared with `param()`.

    An instance without a value reads as the default, so that an updater created by hand, in a unit
    test, works like one created by `bulkup run`.
    """

    def __init__(self, default: Any = MISSING, help: str = "", name: str = "") -> None:
        self.default = default
        self.help = help
        self.name = name or "?"
        """What users type; by default, the attribute's name."""
        self._is_named = bool(name)

    def __set_name__(self, owner: type, name: str) -> None:
        if not self._is_named:
            self.name = name

    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return self
        if self.default is MISSING:
            raise AttributeError(
                f"parameter {self.name!r} of {owner.__name__} has neither a value nor a default"
            )
        return self.default


def param(default: Any = MISSING, *, help: str = "", name: str = "") -> Any:
    """Declare a parameter of an updater class.

        class DeleteOld(BulkDelete):
            cutoff: date = param(help="delete entities older than this")

    The annotation says how `-p cutoff=2024-01-01` is converted. Without a default the parameter is
    required. In the updater the attribute holds the converted value.

    `name`: what to type after `-p`, if it is not the attribute's name. For a word that Python keeps
    for itself: `from_: str = param(name="from")` is set by `-p from=...`.
    """
    return Param(default, help, name)
