from google.cloud import datastore

from tests.conftest import Server


def test_a_server_keeps_what_is_put_and_projects_do_not_mix(server: Server, lf: Server) -> None:
    client = server.client()
    entity = datastore.Entity(client.key("Kind", 1))
    entity["a"] = 1
    client.put(entity)
    assert client.get(client.key("Kind", 1)) == entity
    assert lf.client().get(lf.client().key("Kind", 1)) is None
