"""When a run's markers may be removed: after its end, once no late copy of a commit can arrive.

If the server reports its time, that is a point in time. If not, the clocks of other machines cannot
be relied on: each machine that sees such a run notes its own time since boot in the run's record,
and waits from then on.
"""

from __future__ import annotations

from dataclasses import replace

from bulkup.datastore.server_time import ServerTime
from bulkup.state.holder import boot_id
from bulkup.state.markers import LATE_COPY_S
from bulkup.state.record import Layout

MAX_SEEN = 20
"""Machines noted in a record; the oldest are dropped."""

LONG_AGO_S = 7 * 24 * 3600.0
"""No clock is wrong by this much."""


def sweep_later(layout: Layout, at: int, time: ServerTime) -> Layout:
    """The layout of a run that ends now, and whose markers may be removed from the time `at` on; 0:
    it leaves none."""
    layout = replace(layout, sweep_at=at, sweep_seen=())
    return layout if time.is_known or not at else seen_now(layout, time)


def after_late_copies(layout: Layout, time: ServerTime) -> Layout:
    """The layout of a run that ends now, while late copies of its commits may still arrive."""
    return sweep_later(layout, int(time.now() + LATE_COPY_S) + 1, time)


def may_sweep(layout: Layout, time: ServerTime) -> bool:
    if time.is_known:
        return layout.sweep_at <= time.now()
    seen = dict(layout.sweep_seen).get(boot_id())
    if seen is not None and time.elapsed() - seen >= LATE_COPY_S:
        return True
    return layout.sweep_at <= time.now() - LONG_AGO_S


def is_seen(layout: Layout, time: ServerTime) -> bool:
    """Whether the record needs no note (or no further note) from this machine."""
    return time.is_known or boot_id() in dict(layout.sweep_seen)


def seen_now(layout: Layout, time: ServerTime) -> Layout:
    """The layout with a note that this machine sees it now."""
    others = [seen for seen in layout.sweep_seen if seen[0] != boot_id()]
    seen = (*others[1 - MAX_SEEN :], (boot_id(), time.elapsed()))
    return replace(layout, sweep_seen=seen)
