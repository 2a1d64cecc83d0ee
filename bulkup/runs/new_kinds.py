"""Warns of a kind that a run would create, and that is named almost like an existing one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from bulkup.core.events import Warned, WarningKind
from bulkup.core.similar import similar_names
from bulkup.datastore.call_error import CallError
from bulkup.datastore.metadata import kind_names
from bulkup.runs.prepare import PreparedRun

MOST_KINDS = 1000


def doubts_of_new_kinds(prepared: PreparedRun) -> Iterator[Warned]:
    """The warnings. The server is asked only if the updater names kinds to move to. Raises
    CallError when it does not answer."""
    wanted = prepared.updater._new_kinds()
    if not wanted:
        return
    namespace = prepared.query.namespace
    try:
        ((_, names),) = kind_names(prepared.rpc, [namespace])
        there = list(islice(names, MOST_KINDS))
    except CallError as error:
        if error.worth_another_try:
            raise
        return  # the Firestore emulator does not list its kinds
    handled = {kind.name for kind in prepared.query.pb.kind}
    for kind in wanted:
        # `Person` may well become `Persons`: that is what a rename is for.
        others = [name for name in there if name not in handled]
        close = [] if kind in there else similar_names(kind, others)
        if close:
            yield Warned(
                f"the kind {kind!r} is not there yet, and {close[0]!r} is: is {kind!r} a "
                "misspelling?",
                WarningKind.MISSPELLED,
            )
