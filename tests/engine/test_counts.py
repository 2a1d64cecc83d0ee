"""The counts of a run: each handled entity is one of six, in every report."""

from __future__ import annotations

import random
import re
from collections import Counter
from contextlib import closing
from typing import Any

import pytest
from google.cloud.datastore import Entity

from bulkup import Updater
from bulkup.core.errors import Exit
from bulkup.core.events import Report
from bulkup.core.model import Counts, RunState
from bulkup.engine.reports import stored_report
from bulkup.report.html import summary_html
from bulkup.report.json_fields import summary_fields
from bulkup.report.summary_model import summarize
from bulkup.report.summary_text import summary_text
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import find_run
from tests.conftest import Server
from tests.engine.conftest import Run, fill

pytestmark = pytest.mark.client_side

SIX = ("written", "deleted", "unchanged", "left_alone", "vanished", "failed")
ROWS = ("Written", "Deleted", "Unchanged", "Left alone", "Vanished", "Failed")
DRY_ROWS = ("Would write", "Would delete", *ROWS[2:])
ACTIONS = ("write", "delete", "put unchanged", "leave", "fail", "forget", "late", "other", "gone")


def plan(seed: int, count: int) -> list[tuple[str, ...]]:
    """What the handler does with each entity; entity 1 is written, so no run stops for a change."""
    chosen = random.Random(seed)
    actions = [("write",)]
    for _ in range(count - 1):
        action = chosen.choice(ACTIONS)
        besides = [name for name in ("put other", "delete other") if chosen.random() < 0.3]
        actions.append((action, *besides))
    return actions


class Random(Updater):
    max_failures = -1
    actions: list[tuple[str, ...]]
    gone: set[int]

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        i = entity["i"]
        action, *besides = self.actions[i - 1]
        other = self.client.key("Other", i)
        if "put other" in besides:
            self.put(Entity(other))
        if "delete other" in besides:
            self.delete(self.client.key("Third", i))
        if action in ("write", "late"):
            entity["n"] = 1
        if action in ("write", "late", "put unchanged"):
            self.put(entity)
        if action == "delete":
            self.delete(entity)
        if action in ("forget", "late"):
            entity["n"] = 2
        if action == "gone":
            if i not in self.gone and not self.dry:
                self.gone.add(i)
                self.outside.delete(entity.key)
            self.put(entity)
            entity["n"] = 3
            self.put(entity)
        if action == "fail":
            raise ValueError("no")

    dry = False
    outside: Any
    """The client of somebody else."""


def expected(actions: list[tuple[str, ...]], *, dry: bool) -> dict[str, int]:
    done = Counter(action for action, *_ in actions)
    kept = [besides for action, *besides in actions if action not in ("fail", "gone")]
    kept += [besides for action, *besides in actions if action == "gone" and dry]
    gone = done["gone"]
    return {
        "handled": len(actions),
        "written": done["write"] + done["late"] + (gone if dry else 0),
        "deleted": done["delete"],
        "unchanged": done["put unchanged"],
        "left_alone": done["leave"] + done["forget"] + done["other"],
        "vanished": 0 if dry else gone,
        "failed": done["fail"],
        "changed_not_written": done["forget"] + done["late"],
        "other_written": sum("put other" in besides for besides in kept),
        "other_deleted": sum("delete other" in besides for besides in kept),
    }


def number(text: str) -> int:
    return int(re.match(r"[\d,]+", text)[0].replace(",", ""))  # type: ignore[index]


def assert_adds_up(report: Report) -> dict[str, int]:
    """In all forms of the report. Returns the counts as JSON has them."""
    assert report.counts.add_up
    named: dict[str, int] = summary_fields(report)["counts"]
    assert named["handled"] == sum(named[name] for name in SIX)
    text = summary_text(summarize(report))
    html = summary_html(summarize(report))
    rows = dict(summarize(report).rows)
    assert number(rows["Handled"]) == named["handled"]
    for title, name in zip(DRY_ROWS if report.dry_run else ROWS, SIX, strict=True):
        assert number(rows.get(title, "0")) == named[name]
        if title in rows:
            assert re.search(rf"^  {title} +{re.escape(rows[title])}$", text, re.MULTILINE)
            assert f">{rows[title]}<" in html
    return named


def stored(run_id: str, tmp_path: Any) -> Report:
    with closing(Checkpoint.open(find_run(tmp_path / "state", run_id))) as checkpoint:
        return stored_report(checkpoint)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dry_run", [False, True], ids=["run", "dry run"])
def test_the_counts_of_random_handlers_add_up_in_every_report(
    embedded: Server, run: Run, tmp_path: Any, seed: int, dry_run: bool
) -> None:
    actions = plan(seed, 60)
    outside = fill(embedded, "Thing", 60)
    attributes = {"actions": actions, "gone": set(), "dry": dry_run, "outside": outside}

    def updater() -> Any:
        return type("R", (Random,), attributes)

    if dry_run:
        report = run(embedded, updater(), dry_run=True)
    else:
        # In two runners: the first ends at a limit, the second resumes.
        first = run(embedded, updater(), limit=17 + seed, batch_size=7)
        assert first.exit_code is Exit.LIMIT
        named = assert_adds_up(first)
        assert named["handled"] == 17 + seed
        assert assert_adds_up(stored(first.run_id, tmp_path)) == named
        report = run(embedded, updater(), batch_size=11, shards=2)
        assert report.run_id == first.run_id
    named = assert_adds_up(report)
    assert {name: named[name] for name in expected(actions, dry=dry_run)} == expected(
        actions, dry=dry_run
    )
    if not dry_run:
        assert assert_adds_up(stored(report.run_id, tmp_path)) == named


@pytest.mark.parametrize("dry_run", [False, True], ids=["run", "dry run"])
@pytest.mark.parametrize("budget", [0, 1])
def test_a_run_that_stops_at_a_failure_counts_it_as_handled(
    embedded: Server, run: Run, tmp_path: Any, dry_run: bool, budget: int
) -> None:
    fill(embedded, "Thing", 20)
    broken = True

    def handle(self: Any, entity: Entity) -> None:
        if broken and entity["i"] in (5, 9):
            raise ValueError("no")
        entity["n"] = 1
        self.put(entity)

    def query(self: Any) -> Any:
        return self.client.query(kind="Thing")

    fix = type("Fix", (Updater,), {"get_query": query, "handle_entity": handle})
    report = run(embedded, fix, dry_run=dry_run, max_failures=budget)
    named = assert_adds_up(report)
    failed, handled = (1, 5) if budget == 0 else (2, 9)
    assert (named["handled"], named["written"], named["failed"]) == (
        handled,
        handled - failed,
        failed,
    )
    if dry_run:
        return
    assert assert_adds_up(stored(report.run_id, tmp_path)) == named
    broken = False
    report = run(embedded, fix, max_failures=1)
    named = assert_adds_up(report)
    assert report.state is RunState.FINISHED
    assert (named["handled"], named["failed"]) == (20, budget)


def test_writes_of_an_earlier_version_that_exceed_the_handled_are_others() -> None:
    """It did not tell the writes of other entities from those of the handled ones."""
    old = Counts(handled=10, puts=25, deletes=3, unchanged=2, failed=1)
    named = old.named()
    assert named["handled"] == sum(named[name] for name in SIX)
    assert (named["puts"], named["deletes"], named["failed"]) == (25, 3, 1)
    assert Counts(**old.stored()) == old
    assert "other_puts" not in old.stored()
