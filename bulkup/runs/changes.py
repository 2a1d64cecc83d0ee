"""The changes that a run made, from its undo log: what `bulkup show --changes` prints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from bulkup.core.errors import StateError, UsageError
from bulkup.core.events import PropertyChange, WouldChange
from bulkup.core.typed_key import typed_key
from bulkup.core.visible import visible
from bulkup.datastore.entity_diff import describe_changes
from bulkup.datastore.keys import key_text
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.messages import EntityPb, Mutation, Pb
from bulkup.datastore.rest_form import changed_values
from bulkup.runs.missing_images import missing_changes
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.range_folders import is_cut
from bulkup.state.undo_log import Change, UndoLog, first_landed


def changes_of(checkpoint: Checkpoint, key: str | None = None) -> Iterator[WouldChange]:
    """The applied writes of a run, in the order they were sent.

    `key`: only the writes of this entity. Raises UsageError if it is not a key, StateError if not
    all before-images of the run are here.
    """
    wanted = None if key is None else typed_key(key.strip())
    if key is not None and wanted is None:
        raise UsageError(f"{visible(key)} is not a key; write it like Key('City', 5)")
    run_id = checkpoint.run_info.run_id
    with closing(UndoLog(checkpoint)) as log:
        if log.total and not log.is_kept and not is_cut(checkpoint.folder):
            raise StateError(
                f"run {run_id} has kept no before-images, so its changes are not known"
            )
        for change in log.changes():
            event = _described(change, wanted)
            if event is not None:
                yield event
        if log.missing:
            others = "; the others are shown" if log.missing < log.total else ""
            raise StateError(f"{missing_changes(checkpoint, log)}{others}")


FIRST_BYTES = 16 * 1024 * 1024
"""How much of an undo log `first_changes` reads. A batch has at most 10 MiB."""


def first_changes(run_folder: Path) -> Iterator[WouldChange]:
    """The first writes of a run that its undo log records as applied.

    Unlike `changes_of`, this reads only the beginning of the log, so it is quick for any run, and
    may be called while the run is in progress. Raises StateError.
    """
    for change in first_landed(run_folder, FIRST_BYTES):
        event = _described(change, None)
        if event is not None:
            yield event


def _described(change: Change, wanted: dict[str, object] | None) -> WouldChange | None:
    mutation = Mutation.FromString(change.mutation)
    message = getattr(mutation, mutation.WhichOneof("operation"))
    deletes = mutation.HasField("delete")
    text = key_text(message if deletes else message.key)
    if wanted is not None and typed_key(text) != wanted:
        return None
    if deletes:
        return WouldChange(text, "delete")
    before = LazyEntity(EntityPb.FromString(change.before) if change.before else _empty(message))
    changes = tuple(
        PropertyChange(*one, values=partial(changed_values, before, message, one[0]))
        for one in describe_changes(before, message)
    )
    return WouldChange(text, "put", changes)


def _empty(message: Pb) -> Pb:
    """An entity that did not exist before: the same key, no properties."""
    empty = EntityPb()
    empty.key.CopyFrom(message.key)
    return empty
