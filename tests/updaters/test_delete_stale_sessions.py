from __future__ import annotations

from datetime import datetime, timezone

import pytest
from google.cloud.datastore import Entity

from bulkup.core.errors import ParameterError
from bulkup.testing import handle, offline_client, query
from updaters.delete_stale_sessions import DeleteStaleSessions


def test_the_query_reads_whole_sessions_last_seen_before_the_date() -> None:
    made = query(DeleteStaleSessions, before="2024-01-31")
    assert made.kind == "Session"
    assert not made.projection
    (only,) = made.filters
    assert (only.property_name, only.operator) == ("last_seen", "<")
    assert only.value == datetime(2024, 1, 31, tzinfo=timezone.utc)


def test_selected_sessions_are_deleted() -> None:
    session = Entity(offline_client().key("Session", "s1"))
    assert handle(DeleteStaleSessions, session, before="2024-01-31").deletes == (session.key,)


def test_the_date_is_required() -> None:
    with pytest.raises(ParameterError, match="before"):
        query(DeleteStaleSessions)
