"""How much the generated tests try."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

EXAMPLES = int(os.environ.get("BULKUP_EXAMPLES", "0"))
"""Examples for each generated test. 0: the few of every day, the same ones in every run.
2000 is a night's search, with other examples each time."""

SHRINK = os.environ.get("BULKUP_SHRINK", "") not in ("", "0")
"""Look for the smallest example that fails, once one fails."""


def examples(few: int) -> settings:
    """`few` examples every day, BULKUP_EXAMPLES when that is set."""
    return settings(
        max_examples=EXAMPLES or few,
        derandomize=not EXAMPLES,
        deadline=None,
        # Every example is a talk with two servers: to make one smaller takes minutes, and is for
        # the one who looks into it, with BULKUP_SHRINK=1.
        phases=(Phase.explicit, Phase.generate, *((Phase.shrink,) if SHRINK else ())),
        database=None,
        print_blob=bool(EXAMPLES),
        suppress_health_check=list(HealthCheck),
    )
