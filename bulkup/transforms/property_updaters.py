"""Built-in updaters that change properties: `bulkup run rename-property ...`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from bulkup.authoring.conversion import value_type
from bulkup.authoring.param import param
from bulkup.authoring.sought import Sought
from bulkup.core.errors import UsageError
from bulkup.transforms.built_in import Change
from bulkup.transforms.indexing import index, unindex
from bulkup.transforms.properties import When, drop, embed, rename, set_default
from bulkup.transforms.retyping import TypeName, retype
from bulkup.transforms.sought import HasProperty, NewProperty
from bulkup.transforms.transform import Transform, shown

_OVERWRITE = "replace one of that name; otherwise such an entity fails"


class RenameProperty(Change):
    """Rename a property; its value and index flag stay as they are."""

    from_: str = param(name="from", help="the property's name")
    to: str = param(help="its new name")
    overwrite: bool = param(False, help=_OVERWRITE)

    def transform(self) -> Transform:
        return rename(self.from_, self.to, overwrite=self.overwrite)

    def _sought(self) -> Sequence[Sought]:
        is_there = HasProperty(self.from_, "renamed", instead=self.to)
        return is_there, NewProperty(self.to, others=(self.from_,))


class RetypeProperty(Change):
    """Convert a property to another type; a value without an exact equivalent fails."""

    property: str = param(help="the property's name")
    to: TypeName = param(help="its new type")
    timezone: str = param("UTC", help="of times without an offset: Europe/Zurich")
    format: str | None = param(None, help="of times that are not ISO 8601, for datetime.strptime")

    def transform(self) -> Transform:
        return retype(self.property, self.to, timezone=self.timezone, format=self.format)

    def _sought(self) -> Sequence[Sought]:
        return (HasProperty(self.property, "converted"),)


ValueType = Literal["str", "int", "float", "bool", "datetime"]
_TYPES: dict[str, type] = {
    "str": str, "int": int, "float": float, "bool": bool, "datetime": datetime,
}  # fmt: skip


class SetDefault(Change):
    """Set a property where it has no value."""

    property: str = param(help="the property's name")
    value: str | None = param(help="what to set, of the type that `type` says; @none is null")
    type: ValueType = param("str", help="the type of the value")
    when: When = param("absent", help="what counts as no value")
    indexed: bool = param(True, help="index the property where it is added")

    def transform(self) -> Transform:
        return set_default(self.property, self._typed(), when=self.when, indexed=self.indexed)

    def _sought(self) -> Sequence[Sought]:
        if self.when == "null":
            return (HasProperty(self.property, "set"),)
        return (NewProperty(self.property),)

    def _typed(self) -> Any:
        if self.value is None or self.type == "str":
            return self.value
        reads = value_type(_TYPES[self.type])
        try:
            return reads.parse(self.value)
        except ValueError:
            raise UsageError(
                f"value={shown(self.value)} is not valid; with type={self.type} it takes "
                f"{reads.form}"
            ) from None


class DropProperty(Change):
    """Remove properties."""

    properties: list[str] = param(help="their names")

    def transform(self) -> Transform:
        return drop(*self.properties)

    def _sought(self) -> Sequence[Sought]:
        return [HasProperty(name, "removed") for name in self.properties]


class EmbedProperties(Change):
    """Move properties into an embedded entity, with their names, values and index flags."""

    properties: list[str] = param(help="their names")
    into: str = param(help="the property that holds the embedded entity")
    overwrite: bool = param(False, help=_OVERWRITE)

    def transform(self) -> Transform:
        return embed(*self.properties, into=self.into, overwrite=self.overwrite)

    def _sought(self) -> Sequence[Sought]:
        moved = [HasProperty(name, "moved", instead=self.into) for name in self.properties]
        return [*moved, NewProperty(self.into, others=tuple(self.properties))]


class ChangeIndex(Change):
    """Index properties, or exclude them from indexes."""

    properties: list[str] = param(help="their names")
    indexed: bool = param(help="true: index them; false: exclude them")

    def transform(self) -> Transform:
        return (index if self.indexed else unindex)(*self.properties)

    def _sought(self) -> Sequence[Sought]:
        return [HasProperty(name, "changed") for name in self.properties]
