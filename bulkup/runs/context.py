"""How this process executes runs: everything that is not about one particular run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from bulkup.core.clock import Clock
from bulkup.core.events import Listener
from bulkup.core.stop import StopRequest
from bulkup.datastore.connect import open_rpc
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.target import Target
from bulkup.engine.options import Options


@dataclass(frozen=True)
class RunContext:
    options: Options
    state_dir: Path
    listener: Listener
    wait_s: float = 0.0
    """How long to wait while another process holds the run."""
    clock: Clock = field(default_factory=Clock)
    stop: StopRequest = field(default_factory=StopRequest)
    resume_command: str | None = None
    """The command that continues this work; None: `bulkup resume RUN`."""

    def by_server_time(self, rpc: Rpc) -> RunContext:
        """The same, with the time of the connection's server in place of this machine's."""
        return replace(self, clock=replace(self.clock, unix=rpc.server_time.now))

    def connect(self, target: Target) -> Rpc:
        """Open a connection whose calls are retried as the options say, and not long after a stop
        request."""
        policy = RetryPolicy(self.options.retry_for_s, stopping_s=self.stop.seconds)
        return open_rpc(target, policy, self.clock)
