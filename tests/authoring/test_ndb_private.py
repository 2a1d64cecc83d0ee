"""The private names that handlers of ndb models depend on, as the installed libraries have them."""

from __future__ import annotations

import inspect
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb
from google.cloud.datastore import Client, Entity, Key
from google.cloud.ndb.polymodel import PolyModel

from bulkup.authoring import ndb_private
from bulkup.datastore import google_private


class PinnedPerson(ndb.Model):  # type: ignore[misc, unused-ignore]
    first = ndb.StringProperty()


def test_an_entity_becomes_a_model_and_an_entity_again() -> None:
    entity = Entity(Key("PinnedPerson", 1, project="p"))
    entity["first"] = "Ada"
    client = ndb.Client("p", credentials=AnonymousCredentials())
    with client.context():
        model = ndb_private.model_from_entity(Entity(entity.key))
        assert type(model) is PinnedPerson
        model.first = "Ada"
        assert ndb_private.entity_from_model(model) == entity


def test_a_client_has_an_api_that_takes_messages() -> None:
    client = Client(project="p", credentials=AnonymousCredentials())
    api: Any = ndb_private.datastore_api(client)
    assert api is google_private.datastore_api(client)
    for name in ("lookup", "run_query", "commit", "begin_transaction", "rollback", "allocate_ids"):
        assert "request" in inspect.signature(getattr(api, name)).parameters, name


def test_messages_and_meanings_are_within_reach() -> None:
    key = Key("PinnedPerson", 1, project="p")
    assert ndb_private.message_of(key.to_protobuf()).path[0].id == 1
    assert ndb_private.meanings_of(Entity(key)) == {}


def test_ndb_keeps_the_context_of_a_thread_where_it_did() -> None:
    state = ndb_private.context_state
    assert (state.context, state.toplevel_context) == (None, None)
    with ndb.Client("p", credentials=AnonymousCredentials()).context() as context:
        assert state.context is context
    assert state.context is None


def test_the_models_of_all_kinds_are_in_one_dict() -> None:
    assert ndb_private.kind_map["PinnedPerson"] is PinnedPerson
    del ndb_private.kind_map["PinnedPerson"]
    PinnedPerson._update_kind_map()
    assert ndb.Model._lookup_model("PinnedPerson") is PinnedPerson


def test_models_and_properties_have_the_names_that_are_called() -> None:
    for name in ("_get_kind", "_key", "_pre_put_hook", "_prepare_for_put", "_properties"):
        assert hasattr(PinnedPerson, name), name
    for name in ("_class_key", "_class_name"):
        assert hasattr(PolyModel, name), name
    for name in ("_name", "_repeated", "_get_user_value", "_prepare_for_put"):
        assert hasattr(PinnedPerson.first, name), name
    assert ndb.Key._from_ds_key(Key("PinnedPerson", 1, project="p"))._key.id == 1
    assert ndb.StructuredProperty(PinnedPerson)._model_class is PinnedPerson
    assert ndb.DateTimeProperty(auto_now=True)._auto_now is True
