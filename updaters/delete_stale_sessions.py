"""Delete what is older than a date.

bulkup run updaters/delete_stale_sessions.py -p before=2024-01-31
"""

from __future__ import annotations

from datetime import date, datetime, time, timezone

from google.cloud.datastore import Query
from google.cloud.datastore.query import PropertyFilter

from bulkup import BulkDelete, param


class DeleteStaleSessions(BulkDelete):
    """Delete every Session last seen before a date."""

    before: date = param(help="delete sessions last seen before this date (UTC)")

    def get_query(self) -> Query:
        midnight = datetime.combine(self.before, time.min, timezone.utc)
        query = self.client.query(kind="Session")
        query.add_filter(filter=PropertyFilter("last_seen", "<", midnight))
        # Not keys_only(), though it is cheaper: keys come without versions, and a session that
        # somebody uses between our reading and our deleting would be deleted all the same.
        return query
