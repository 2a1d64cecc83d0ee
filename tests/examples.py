"""How many examples the generated tests try: a fifth of them every day, all of them at night.

`pytest -m chaos` runs every generated test with all of its examples, others each time. Every day
it is the same fifth in every run. BULKUP_EXAMPLES=50 tries fifty times as many as at night,
whatever else is chosen: `BULKUP_EXAMPLES=50 pytest -m chaos -k generated` searches for hours.
"""

from __future__ import annotations

import os
import re

from hypothesis import HealthCheck, settings

FULL = 100
"""What hypothesis tries of a test that does not say how many, in the nightly form."""

_TIMES = float(os.environ.get("BULKUP_EXAMPLES", "0"))

_COMMON = settings(
    # No test depends on how fast the machine is.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # Several processes would write to one database, and no run may depend on an earlier one.
    database=None,
)
settings.register_profile("daily", _COMMON, max_examples=FULL // 5, derandomize=True)
settings.register_profile(
    "nightly", _COMMON, max_examples=max(1, int(FULL * (_TIMES or 1))), print_blob=True
)


def is_nightly(mark_expression: str) -> bool:
    """Whether `-m` asks for the tests marked `chaos`."""
    return bool(re.search(r"(?<!not )\bchaos\b", mark_expression))


def load_profile(*, nightly: bool) -> None:
    """Must come before the first test module is imported, for `examples`."""
    settings.load_profile("nightly" if nightly or _TIMES else "daily")


def examples(full: int) -> settings:
    """For a test whose nightly number of examples differs from that of the others."""
    default = settings.default
    assert default is not None
    return settings(max_examples=max(1, full * default.max_examples // FULL))
