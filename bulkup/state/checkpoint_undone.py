"""What is noted in a run's checkpoint of the runs that undo it."""

from __future__ import annotations

from collections.abc import Sequence

from bulkup.state.checkpoint_file import CheckpointFile


class Undone(CheckpointFile):
    """Whether the run is undone, in part, or was brought back; `Status` has what is read."""

    def begin_undo(self, run_id: str) -> None:
        """A run that undoes this one starts or is resumed. Synced to disk before it writes."""
        undos = self._meta().get("undos") or []
        if run_id not in undos:
            with self._step(synced=True):
                self._set(undos=[*undos, run_id])

    def undone(self, by: Sequence[str], *, partly: bool = False) -> None:
        """The runs `by` have put back what this one changed; `partly`: not all of it."""
        with self._step(synced=True):
            self._set(undone_by=by[-1], undone_by_all=list(by), partly=partly, brought_back_by="")

    def brought_back(self, by: str) -> None:
        """The run `by` has undone the one that had undone this one."""
        with self._step(synced=True):
            self._set(undone_by="", undone_by_all=[], undos=[], partly=False, brought_back_by=by)
