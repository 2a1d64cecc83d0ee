"""pydantic models as the types of entities. Each model defines how strict it is."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bulkup.authoring.field_marks import key_field
from bulkup.authoring.mismatch import path_text
from bulkup.authoring.model_values import Values, plain, stored
from bulkup.authoring.typed_models import ValueAdapter
from bulkup.authoring.writes import REMOVE
from bulkup.core.errors import UsageError
from bulkup.core.places import about

if TYPE_CHECKING:
    from google.cloud.datastore import Entity

_STORABLE = (str, int, float, bytes, datetime, type(None))


class PydanticModels(ValueAdapter):
    def __init__(self, model: Any) -> None:
        if not hasattr(model, "model_validate"):
            raise UsageError(
                f"{model.__name__} is a model of pydantic 1; bulkup needs pydantic 2: "
                "pip install 'bulkup[pydantic]'"
            )
        super().__init__(model)
        self._model = model
        # A model with aliases, or one that allows extra properties, is given all properties.
        names = set(model.model_fields)
        is_plain = model.model_config.get("extra") != "allow" and not any(
            field.alias or field.validation_alias for field in model.model_fields.values()
        )
        self._names = names - {self.key_field} if is_plain else None

    def to_model(self, entity: Entity) -> Any:
        from pydantic import ValidationError

        try:
            return self._validated(entity)
        except ValidationError as error:
            raise ValueError(_sentence(_errors(error), self._model.__name__)) from None

    def check_written(
        self, entity: Entity, model: Any, values: Values, changed: Collection[str]
    ) -> None:
        from pydantic import ValidationError

        if type(model) is not self._model:
            return
        try:
            self._validated(entity)
        except ValidationError as error:
            # A property that was removed, or is read by another alias, is not of a wrong type.
            wrong = [one for one in _errors(error) if one["type"] != "missing"]
            if wrong:
                refused = ValueError(_sentence(wrong, self._model.__name__))
                raise about(refused, str(next(iter(wrong[0]["loc"]), ""))) from None

    def _validated(self, entity: Entity) -> Any:
        """Raises ValidationError."""
        names = entity if self._names is None else [n for n in self._names if n in entity]
        # Copy to plain dicts: pydantic reads a dict's own storage, which an entity fills lazily.
        values = {name: _plain_copy(entity[name]) for name in names}
        if self.key_field is not None:
            values[self.key_field] = entity.key
        return self._model.model_validate(values)

    def unindexed(self, model: Any) -> Collection[str]:
        fields = type(model).model_fields
        names = super().unindexed(model)
        return [fields[n].serialization_alias or fields[n].alias or n for n in names]

    def plain_value(self, value: Any) -> Any:
        values = value.model_dump(by_alias=True) if self.is_model(value) else value
        return value if value is REMOVE else stored(_storable(plain(values)))

    def is_model(self, value: Any) -> bool:
        from pydantic import BaseModel

        return isinstance(value, BaseModel)

    def values(self, model: Any) -> Values:
        values: Values = model.model_dump(
            by_alias=True, warnings=False
        )  # `check_written` reports more
        name = key_field(type(model))
        if name is not None:
            del values[name]
        return {name: _storable(value) for name, value in plain(values).items()}


def _plain_copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain_copy(value[name]) for name in value}
    return [_plain_copy(item) for item in value] if isinstance(value, list) else value


def _storable(value: Any) -> Any:
    """Convert a type that Datastore does not have (Decimal, UUID) as in pydantic's JSON."""
    if isinstance(value, _STORABLE):
        return value
    if isinstance(value, dict):
        return {name: _storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if type(value).__module__.startswith("google."):  # Key, GeoPoint
        return value
    if hasattr(value, "get_secret_value"):  # SecretStr: its JSON is asterisks
        return value.get_secret_value()
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


def _errors(error: Any) -> Any:
    return error.errors(include_url=False, include_context=False, include_input=False)


def _sentence(errors: Any, model: str) -> str:
    """`property 'home.zip' is not what Person wants: Input should be a valid integer`"""
    first, *more = errors
    others = f" (and {len(more)} more)" if more else ""
    if not first["loc"]:
        return f"no {model} can be made of it: {first['msg']}{others}"
    where = f"property {path_text(iter(first['loc']))!r}"
    if first["type"] == "missing":
        return f"{where} is missing, and {model} has no default for it{others}"
    return f"{where} is not what {model} wants: {first['msg']}{others}"
