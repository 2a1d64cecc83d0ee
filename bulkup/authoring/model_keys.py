"""The key of a model, for handlers: what they delete, and where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bulkup.authoring.updater import models_of_running_handler
from bulkup.authoring.writes import Delete, key_to_delete

if TYPE_CHECKING:
    from google.cloud.datastore import Key


def key_of(model: Any) -> Key:
    """The `google.cloud.datastore.Key` of an entity, or of a model that a handler was given or has
    put in this call.

    Raises TypeError for what has no key.
    """
    from google.cloud.datastore import Entity

    if isinstance(model, Entity) and model.key is not None:
        return model.key
    models = models_of_running_handler()
    if models is not None:
        return models.key_of(model)
    raise TypeError(
        f"the key of this {type(model).__name__} is not known: bulkup makes no models on this "
        "thread now; in a test, call bulkup.testing.handle(updater, entity)"
    )


def delete(entity_or_key: Any) -> Delete:
    """For function updaters: `return bulkup.delete(entity)` deletes the entity.

    Raises TypeError for anything but an Entity, a Key, or a model with a key.
    """
    models = models_of_running_handler()
    if models is not None:
        (entity_or_key,) = models.keys(entity_or_key)
    return Delete(key_to_delete(entity_or_key))
