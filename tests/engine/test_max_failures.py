"""`max_failures` as a share of the entities handled."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.datastore import Entity

from bulkup import Updater
from bulkup.core.errors import Exit
from bulkup.core.events import EntityFailed
from bulkup.core.model import RunState
from tests.conftest import Server
from tests.engine.conftest import Run, fill

pytestmark = pytest.mark.client_side


class Fails(Updater):
    bad: frozenset[int]
    max_failures = "1%"

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        if entity["i"] in self.bad:
            raise ValueError("bad")
        entity["n"] = 1
        self.put(entity)


def failing(*bad: int) -> type[Updater]:
    return type("Fails", (Fails,), {"bad": frozenset(bad)})


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_share_of_a_small_run_is_of_all_its_entities(
    embedded: Server, run: Run, dry_run: bool
) -> None:
    fill(embedded, "Thing", 300)
    report = run(embedded, failing(1, 150, 300), dry_run=dry_run, batch_size=10)
    assert (report.exit_code, report.counts.failed) == (Exit.DONE_WITH_FAILURES, 3)
    fill(embedded, "Thing", 300)
    events: list[Any] = []
    report = run(
        embedded, failing(1, 2, 250, 251), listener=events.append, dry_run=dry_run, batch_size=10
    )
    assert (report.state, report.exit_code) == (RunState.FAILED, Exit.FAILED)
    assert (report.counts.failed, report.max_failures) == (4, 3)
    if not dry_run:
        assert "more than 3 entities failed (--max-failures)" in report.reason
    assert [e.max_failures for e in events if isinstance(e, EntityFailed)][-1] == 3


def test_a_share_grows_with_what_is_handled(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 2_000)
    early = failing(*range(1, 12))  # 11 of the first 1,000
    report = run(embedded, early)
    assert (report.state, report.counts.failed, report.max_failures) == (RunState.FAILED, 11, 10)


def test_failures_at_the_end_are_measured_by_all_before_them(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 2_000)
    late = failing(*range(1, 11), *range(1_991, 2_000))  # 19 of 2,000
    report = run(embedded, late)
    assert (report.state, report.counts.failed) == (RunState.FINISHED, 19)


def test_a_resumed_run_counts_what_was_handled_before(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 2_000)
    bad = failing(*range(1, 11), *range(1_991, 2_000))
    report = run(embedded, bad, limit=1_900)
    assert (report.exit_code, report.counts.failed) == (Exit.LIMIT, 10)
    report = run(embedded, bad)
    assert (report.state, report.counts.failed) == (RunState.FINISHED, 19)


def test_the_share_of_the_last_runner_is_kept_for_a_resume(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 200)
    broken = failing(*range(1, 9))
    report = run(embedded, broken, max_failures="2.5%")
    assert (report.state, report.counts.failed) == (RunState.FAILED, 6)
    assert "--max-failures" in report.reason
