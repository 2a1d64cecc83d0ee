"""How often Python looks for garbage while a run is at work."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

COLLECT_AFTER = 20_000
"""New objects; those of some batches."""


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """A batch's entities are new objects that go as they came; looking for cycles among them
    after each 700 of them, as Python does, costs 5 % of the time."""
    before = gc.get_threshold()
    if before[0]:
        gc.set_threshold(max(before[0], COLLECT_AFTER), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
