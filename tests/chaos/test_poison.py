"""Five bad entities among four hundred cost five entities."""

from __future__ import annotations

import pytest

from bulkup.core.model import RunState
from bulkup.datastore import entity_patch
from bulkup.engine import handler_call
from bulkup.engine.options import Options
from tests.chaos.bench import World
from tests.chaos.conftest import MakeWorld
from tests.conftest import Server

SIZE = 400
BATCH = 40

POISON = {
    7: ("too large", "write", ""),
    100: ("long string", "write", "INVALID_ARGUMENT"),
    101: ("bad name", "write", "INVALID_ARGUMENT"),
    333: ("raises", "handle", "ValueError: this one is poisoned"),
    400: ("type", "handle", "object"),
}
"""By id: the poison, the step that must be named, and a part of the error."""


@pytest.fixture(autouse=True)
def _nothing_is_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave it to the server to refuse what bulkup would refuse at `put` (tests/engine/test_limits
    shows that)."""
    for name in ("check_value", "check_properties", "check_property_name"):
        monkeypatch.setattr(entity_patch, name, lambda *_: None)
    monkeypatch.setattr(handler_call, "check_whole", lambda *_: None)


@pytest.fixture
def world(server: Server, make_world: MakeWorld) -> World:
    return make_world(server, SIZE, poison=lambda id_: POISON[id_][0] if id_ in POISON else None)


def _only_the_poisoned_are_not_written(world: World) -> None:
    things = world.things()
    assert sorted(k for k, thing in things.items() if thing["n"] != 1) == sorted(POISON)
    assert all(things[k]["n"] == 0 for k in POISON)


@pytest.mark.parametrize("budget", [5, pytest.param(-1, marks=pytest.mark.chaos)])
def test_five_bad_entities_are_named_and_all_others_written(world: World, budget: int) -> None:
    report = world.run("Poisoned", Options(batch_size=BATCH, max_failures=budget))
    assert report.exit_code == 3, report.reason
    counts = report.counts
    assert (counts.handled, counts.puts, counts.failed) == (SIZE, SIZE - 5, 5)
    named = {int(f.key.split(", ")[1].rstrip(")")): f for f in report.failures}
    assert named.keys() == POISON.keys()
    for id_, (_, step, error) in POISON.items():
        assert named[id_].step == step, named[id_]
        assert error in named[id_].error, named[id_]
    _only_the_poisoned_are_not_written(world)
    assert world.markers() == []


def test_one_failure_over_the_budget_stops_the_run_and_it_can_be_resumed(
    lf: Server, make_world: MakeWorld
) -> None:
    world = make_world(lf, SIZE, poison=lambda id_: POISON[id_][0] if id_ in POISON else None)
    report = world.run("Poisoned", Options(batch_size=BATCH, max_failures=4))
    assert (report.exit_code, report.state) == (1, RunState.FAILED)
    assert "more than 4" in report.reason
    assert report.counts.failed == 5
    assert all(thing["n"] in (0, 1) for thing in world.things().values())
    report = world.resume(Options(batch_size=BATCH, max_failures=5))
    assert report.exit_code == 3, report.reason
    assert (report.counts.handled, report.counts.failed) == (SIZE, 5)
    assert len(report.failures) == 5
    _only_the_poisoned_are_not_written(world)


def test_the_default_budget_stops_at_the_first_failure_and_writes_its_neighbours_once(
    lf: Server, make_world: MakeWorld
) -> None:
    world = make_world(lf, 40, poison=lambda id_: "long string" if id_ in (13, 29) else None)
    options = Options(batch_size=10, in_flight=3)
    report = world.run("Poisoned", options)
    assert (report.exit_code, report.state) == (1, RunState.FAILED)
    assert "Key('Thing', 13)" in report.reason
    again = world.resume(options)
    assert again.exit_code == 1
    assert "Key('Thing', 13)" in again.reason
    last = world.resume(Options(batch_size=10, max_failures=-1))
    assert (last.exit_code, last.counts.handled, last.counts.failed) == (3, 40, 2)
    assert world.violations() == ["thing 13 has n = 0", "thing 29 has n = 0"]
