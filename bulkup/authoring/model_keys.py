"""What handlers call to get the key of a model, or to delete an entity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bulkup.authoring.running import models_of_running_handler
from bulkup.authoring.writes import Delete, flat, key_to_delete

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


def delete(*entities_or_keys: Any) -> Delete:
    """For function updaters: `return bulkup.delete()` deletes the handled entity.

    `bulkup.delete(entity_or_key, ...)` deletes others instead. A collection counts as its items, so
    an empty list deletes nothing: give a list that may be empty as one argument, without a star.
    Raises TypeError for anything but Entities, Keys, and models with a key.
    """
    if not entities_or_keys:
        return Delete(None)
    models = models_of_running_handler()
    items = flat if models is None else models.keys
    return Delete(tuple(key_to_delete(one) for item in entities_or_keys for one in items(item)))
