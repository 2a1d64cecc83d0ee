"""The names users may rely on. Adding one is a decision; so is this test."""

from __future__ import annotations

import bulkup


def test_the_public_door_opens_to_these_names_and_no_others() -> None:
    assert sorted(bulkup.__all__) == [
        "BulkDelete", "BulkPut", "BulkupError", "Report", "Updater", "delete", "param", "run",
        "updater",
    ]  # fmt: skip
    assert all(getattr(bulkup, name).__module__.startswith("bulkup.") for name in bulkup.__all__)
