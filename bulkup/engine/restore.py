"""The updater of a run that puts entities back: the base of `bulkup undo` and `bulkup rewind`.

It works on a `RestoreList`: for each key the message to put back, as it was (values, index flags,
meanings), and how the entity was left. What somebody has changed since stays, and is listed in the
report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkup.authoring.updater import Updater
from bulkup.datastore.lazy_entity import page_entity, read_version
from bulkup.datastore.reads import ABSENT
from bulkup.engine.call_failure import LeftAloneError
from bulkup.engine.handle import Handler

if TYPE_CHECKING:
    from google.cloud.datastore import Entity, Query

    from bulkup.state.restore_list import Restore, RestoreList


class Restorer(Updater):
    """Put entities back as they were."""

    max_failures = -1  # everything that others have changed is listed, however much it is
    force: bool = False
    """Also put back what somebody has changed since."""
    restores: RestoreList
    """Set before the first entity is handled."""

    def get_query(self) -> Query:
        return self.client.query()

    def handle_entity(self, entity: Entity) -> None:
        sink = self._open_sink
        assert isinstance(sink, Handler)
        there, version = page_entity(entity), read_version(entity)
        restore = self.restores.get(there.key)
        now = b"" if version == ABSENT else there.SerializeToString()
        if restore.is_done(now):
            sink.replace_own(None)
        elif self.force or restore.is_as_left(version, now):
            sink.replace_own(restore.image)
        else:
            raise LeftAloneError(_why(restore, now))


def _why(restore: Restore, now: bytes) -> str:
    what = "changed it"
    if not now:
        what = "deleted it"
    elif restore.version == ABSENT:
        what = "put an entity there"
    elif restore.torn:
        return "left as it is: others have changed it between two writes of the run"
    return f"left as it is: somebody has {what} since"
