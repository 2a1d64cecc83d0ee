"""The table of deliberate differences is accurate, and no row in it is stale."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.local.differential.build import Place
from tests.local.differential.compare import Difference, Judge
from tests.local.differential.differences import DIFFERENCES


@pytest.mark.parametrize(
    ("row", "emulator"),
    [(row, emulator) for row in DIFFERENCES for emulator in row.where.split(", ")],
    ids=lambda one: one if isinstance(one, str) else one.id.replace(" ", "-"),
)
def test_each_row_of_the_table_is_needed_and_sufficient(
    row: Difference,
    emulator: str,
    beside_fs: Judge,
    beside_lf: Judge,
    fresh: Callable[[], Place],
) -> None:
    judge = beside_fs if emulator == "FS" else beside_lf
    exchange = row.example(judge, fresh())
    assert exchange.our_answer != exchange.their_answer, f"no difference any more\n{exchange}"
    assert row.id in judge.explanation(exchange), f"the row does not explain\n{exchange}"


def test_each_row_has_a_name_and_a_reason() -> None:
    assert len({row.id for row in DIFFERENCES}) == len(DIFFERENCES)
    for row in DIFFERENCES:
        assert row.where in ("FS", "LF", "FS, LF")
        assert len(row.what) > 20
        assert len(row.reason) > 20
