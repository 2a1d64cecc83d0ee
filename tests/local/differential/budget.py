"""How much the generated tests try that talk with servers."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

from tests import examples as everywhere

SHRINK = os.environ.get("BULKUP_SHRINK", "") not in ("", "0")
"""Look for the smallest example that fails, once one fails."""


def examples(full: int) -> settings:
    """`full` examples at night, a fifth of them every day (see tests/examples.py)."""
    return settings(
        everywhere.examples(full),
        # Every example is a talk with two servers: to make one smaller takes minutes, and is for
        # the one who looks into it, with BULKUP_SHRINK=1.
        phases=(Phase.explicit, Phase.generate, *((Phase.shrink,) if SHRINK else ())),
        suppress_health_check=list(HealthCheck),
    )
