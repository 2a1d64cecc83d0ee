"""Unit tests of updaters: `handle` calls one for an entity, `query` shows which it asks for."""

from bulkup.authoring.testing import Writes, handle, offline_client, query

__all__ = ["Writes", "handle", "offline_client", "query"]
