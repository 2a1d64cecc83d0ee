import os
import signal
import time

from bulkup import Updater


class AddC(Updater):
    """Append c to the trail of every Item."""

    def get_query(self):
        return self.client.query(kind="Item")

    def handle_entity(self, entity):
        if os.environ.get("DIE_AT") == f"c{entity.key.id}":
            time.sleep(1)  # the commits in flight arrive, and this process never hears of it
            os.kill(os.getpid(), signal.SIGKILL)
        entity["trail"] = entity.get("trail", "") + "c"
        self.put(entity)
