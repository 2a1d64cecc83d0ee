"""A pause that comes at a bad moment: while a dead runner's run is recovered, and while a commit is
sent again."""

from __future__ import annotations

import grpc
import pytest

from bulkup.core.events import Event, Progress
from bulkup.core.steering import Verb
from bulkup.core.vitals import Phase
from bulkup.engine.options import Options
from bulkup.engine.recovery import Recovery
from bulkup.state.steering import change_steering
from tests.chaos.bench import Crash, World
from tests.chaos.conftest import MakeWorld
from tests.chaos.proxy import Action, Lose, Pass, Refuse, Seen
from tests.conftest import Server

OPTIONS = Options(batch_size=5, in_flight=2)


def steer(world: World, verb: Verb) -> None:
    change_steering(world.folder, lambda there: there.after(verb, by="ann@host", at=1.0) or there)


class Pauses:
    """A listener that notes what is done at each sign of a pause, and continues the run once there
    were a few."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.seen: list[tuple[int, int]] = []
        """What the runner counts as handled, and what is written."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress) and event.vitals and event.vitals.phase is Phase.PAUSED:
            written = sum(thing["n"] for thing in self._world.things().values())
            self.seen.append((event.counts.handled, written))
            if len(self.seen) == 3:
                steer(self._world, Verb.CONTINUE)


def test_a_run_that_is_paused_while_it_is_recovered_handles_nothing_more(
    embedded: Server, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, commits, recover = make_world(embedded), 0, Recovery.recover_shard

    def crash(_: int, name: str) -> None:
        nonlocal commits
        commits += name == "Commit"
        if commits == 4:
            raise Crash

    def paused(recovery, shard):  # type: ignore[no-untyped-def]
        steer(world, Verb.PAUSE)
        return recover(recovery, shard)

    with pytest.raises(Crash):
        world.run("Increment", OPTIONS, on_send=crash)
    monkeypatch.setattr(Recovery, "recover_shard", paused)
    pauses = Pauses(world)
    report = world.resume(OPTIONS, listener=pauses)
    assert report.success
    assert len({*pauses.seen}) == 1
    handled, written = pauses.seen[0]
    assert 10 <= handled == written <= 15
    assert world.violations() == []


def test_a_pause_that_comes_while_a_commit_is_sent_again_waits_for_its_outcome(
    embedded: Server, make_world: MakeWorld
) -> None:
    world, tries = make_world(embedded), 0

    def faults(seen: Seen) -> Action:
        nonlocal tries
        if seen.method != "Commit" or seen.nth < 3 or tries == 6:
            return Pass()
        tries += 1
        if tries == 1:
            return Lose(grpc.StatusCode.UNAVAILABLE)
        if tries == 2:
            steer(world, Verb.PAUSE)
        return Refuse(grpc.StatusCode.UNAVAILABLE)

    world.proxy.faults = faults
    pauses = Pauses(world)
    report = world.run("Increment", OPTIONS, listener=pauses)
    assert report.success
    assert tries == 6
    assert len({*pauses.seen}) == 1
    handled, written = pauses.seen[0]
    assert 10 < handled == written < world.size
    assert world.violations() == []
