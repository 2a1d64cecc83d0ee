"""The private names of Google's libraries that handlers of ndb models depend on.

`tests/authoring/test_ndb_private.py` pins each of them. Other names with an underscore, such as
`_properties` and `_prepare_for_put`, are used on models and properties. ndb documents these, and
reserves names without an underscore for properties.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from google.cloud.ndb import context, model

datastore_api: Any = attrgetter("_datastore_api")
"""What a client sends its calls through. The official client has no public call that takes and
returns messages."""

meanings_of: Any = attrgetter("_meanings")
"""The meanings of an entity's properties, {name: (meaning, the value it was read with)}."""

message_of: Any = attrgetter("_pb")
"""The message inside the official client's wrapper of it."""

context_state: Any = context._state
"""The ndb context in effect, per thread."""

model_from_entity: Any = model._entity_from_ds_entity
entity_from_model: Any = model._entity_to_ds_entity

kind_map: Any = model.Model._kind_map
"""By kind: the model that ndb makes of an entity."""
