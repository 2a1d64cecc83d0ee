"""Somebody who steers a run at random, from its folder and through its record, while it is in a
storm of faults."""

from __future__ import annotations

import random
import threading
from contextlib import closing, suppress
from dataclasses import replace

from bulkup.core.errors import StateError
from bulkup.core.model import TargetInfo
from bulkup.core.steering import NO_TUNING, Steering, Tuning, Verb
from bulkup.datastore.rpc import Rpc
from bulkup.state.run_records import Ledger, RecordMovedOn
from bulkup.state.steering import change_steering
from tests.chaos.bench import World

MOST_CANCELS = 3
"""Each ends a runner, and a storm has a few."""


class Helm:
    """Steers the world's runs within its block, and soon continues a paused one."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._rng = random.Random(f"{seed}/helm")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._cancels = MOST_CANCELS
        self._errors: list[Exception] = []
        self.done: list[str] = []

    def __enter__(self) -> Helm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        assert not self._errors, (self._errors, self.done)

    def _work(self) -> None:
        try:
            with closing(Rpc(self._world.client)) as rpc:
                ledger = Ledger(rpc, TargetInfo(self._world.server.project))
                while not self._over.wait(self._rng.uniform(0.002, 0.03)):
                    # Or its disk is lost just now.
                    with suppress(StateError, FileNotFoundError, IndexError):
                        if self._world.has_run():
                            self._steer(ledger)
        except Exception as error:
            self._errors.append(error)

    def _steer(self, ledger: Ledger) -> None:
        rng, verbs = self._rng, [Verb.PAUSE, Verb.CONTINUE, Verb.CONTINUE, Verb.TUNE]
        if self._cancels and rng.random() < 0.1:
            verbs = [Verb.CANCEL]
        verb, tuning = rng.choice(verbs), NO_TUNING
        if verb is Verb.TUNE:
            tuning = Tuning(rng.choice([None, "off", "20000"]), rng.choice([None, 0, 1, 5]),
                            rng.choice([None, 1, 2, 7]))  # fmt: skip

        def change(there: Steering) -> Steering:
            return there.after(verb, by="chaos", at=1.0, tuning=tuning) or there

        where = rng.choice(["folder", "record"])
        folder = self._world.folder
        if where == "folder":
            change_steering(folder, change)
        else:
            record = ledger.read(folder.name)
            if record is None or record.state.is_over:
                return
            with suppress(RecordMovedOn):
                ledger.write(replace(record, steering=change(record.steering)))
        self._cancels -= verb is Verb.CANCEL
        self.done.append(f"{verb} by {where}")
