"""What a run's checkpoint records about the runs that undo it."""

from __future__ import annotations

from collections.abc import Sequence

from bulkup.state.checkpoint_file import CheckpointFile


class Undone(CheckpointFile):
    """Records whether the run was undone, partly undone or brought back. `Status` reads it."""

    def begin_undo(self, run_id: str) -> None:
        """Record that a run that undoes this one starts or is resumed. Synced to disk before it
        writes."""
        undos = self._meta().get("undos") or []
        if run_id not in undos:
            with self._step(synced=True):
                self._set(undos=[*undos, run_id])

    def undone(self, by: Sequence[str], *, partly: bool = False) -> None:
        """Record that the runs `by` put back what this one changed; `partly`: not all of it."""
        with self._step(synced=True):
            self._set(undone_by=by[-1], undone_by_all=list(by), partly=partly, brought_back_by="")

    def brought_back(self, by: str) -> None:
        """Record that the run `by` undid this run's undo."""
        with self._step(synced=True):
            self._set(undone_by="", undone_by_all=[], undos=[], partly=False, brought_back_by=by)
