"""Delete entities older than a date.

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
        # keys_only() would be cheaper, but keys come without versions: a session that somebody uses
        # after it was read and before it is deleted would be deleted too.
        return query
