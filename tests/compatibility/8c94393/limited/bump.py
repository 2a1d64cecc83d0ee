"""Not idempotent on purpose: an entity that is handled twice, or never, shows."""

import os
import signal
import time

from bulkup import Updater, param


class Bump(Updater):
    """Add a step to the number of every Item."""

    max_failures = 3
    step: int = param(1)

    def get_query(self):
        return self.client.query(kind="Item")

    def handle_entity(self, entity):
        if os.environ.get("DIE_AT") == str(entity.key.id):
            time.sleep(1)  # the commits in flight arrive, and this process never hears of it
            os.kill(os.getpid(), signal.SIGKILL)
        if entity.key.id == 7:
            self.log("seven was here")
        entity["n"] += self.step
        self.put(entity)
