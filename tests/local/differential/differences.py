"""The table of every deliberate difference between the embedded Datastore and the emulators."""

from __future__ import annotations

from tests.local.differential.compare import Difference

DIFFERENCES: tuple[Difference, ...] = ()
