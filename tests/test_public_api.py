"""The names users may rely on. Adding one is a decision; so is this test."""

from __future__ import annotations

from enum import Enum

import pytest

import bulkup
from bulkup.core.errors import Exit
from bulkup.core.model import RunState
from bulkup.migrations.status import MigrationStatus


def test_the_package_exports_these_names_and_no_others() -> None:
    assert sorted(bulkup.__all__) == [
        "BulkDelete", "BulkPut", "BulkupError", "EntityKey", "REMOVE", "Report", "Unindexed",
        "Updater", "client", "delete", "key_of", "param", "run", "updater",
    ]  # fmt: skip
    own = set(bulkup.__all__) - {"EntityKey", "Unindexed"}  # other types, with a mark
    assert all(getattr(bulkup, name).__module__.startswith("bulkup.") for name in own)


@pytest.mark.parametrize(
    ("member", "text"),
    [(Exit.USAGE, "2"), (RunState.FINISHED, "finished"), (MigrationStatus.APPLIED, "applied")],
)
def test_what_a_report_says_reads_the_same_on_every_python(member: Enum, text: str) -> None:
    assert str(member) == f"{member}" == text
