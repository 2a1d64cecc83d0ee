"""Narrows an updater's query to what the user has selected.

What comes out is a query like any other: whatever is true of a query that an updater has written
(shards, order, what is refused) is true of it, too.
"""

from __future__ import annotations

from bulkup.core.errors import QueryError
from bulkup.core.selection import Selection
from bulkup.datastore.messages import Pb


def narrow(pb: Pb, selection: Selection) -> None:
    """Narrow a Query message in place. Raises QueryError."""
    if selection.kind:
        _narrow_kind(pb, selection.kind)


def _narrow_kind(pb: Pb, kind: str) -> None:
    own = [one.name for one in pb.kind]
    if not own:
        pb.kind.add(name=kind)
    elif own != [kind]:
        raise QueryError(
            f"the updater's query is for kind {own[0]!r}, so --kind {kind!r} selects nothing of "
            "it; leave --kind out"
        )
