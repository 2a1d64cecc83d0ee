"""Attributes that a handler set on an entity but meant as properties: `person.city = "Bern"`.

Python allows this, but attributes are not stored. Names that begin with an underscore are left to
the user.
"""

from __future__ import annotations

from typing import Any

from google.cloud.datastore import Entity

from bulkup.core.places import about
from bulkup.datastore.google_private import ENTITY_STATE
from bulkup.datastore.lazy_entity import LazyEntity


def check_no_stray(entity: Any) -> None:
    """Raise TypeError if an entity, or one in a property that was read from it, has an attribute
    that is not stored.

    Call it only if `entity.__dict__` is not empty: most handled entities never get one.
    """
    # A subclass of the user's own may have attributes.
    if type(entity) not in (LazyEntity, Entity):
        return
    attributes = entity.__dict__
    for name in attributes:
        if not name.startswith("_") and name not in ENTITY_STATE:
            raise about(
                TypeError(
                    f"the attribute {name!r} was set on an entity, which does not store it; write "
                    f"entity[{name!r}] = ..., or name it _{name} if it is not to be stored"
                ),
                name,
            )
    for name in attributes.get("_values") or ():  # nested entities and arrays that were read
        value = dict.get(entity, name)
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, Entity):
                check_no_stray(one)
