"""How this process executes runs: everything that is not about one particular run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bulkup.core.clock import Clock
from bulkup.core.events import AlreadyDone, Listener, Warned, WarningKind
from bulkup.core.model import TargetInfo
from bulkup.core.paths import current_directory
from bulkup.core.spans import Observer
from bulkup.core.stop import StopRequest
from bulkup.datastore.connect import open_rpc
from bulkup.datastore.containment import Containment
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.target import Target
from bulkup.engine.options import Options
from bulkup.engine.progress import UNANSWERED_S
from bulkup.engine.steered import CarriedSteering
from bulkup.runs.plan_file import PlanFile
from bulkup.state.display import resume_command


@dataclass(frozen=True)
class RunContext:
    options: Options
    state_dir: Path
    listener: Listener
    wait_s: float = 0.0
    """How long to wait while another process holds the run."""
    clock: Clock = field(default_factory=Clock)
    observer: Observer | None = None
    """Sees what runs spend their time on (`core/spans.py`)."""
    stop: StopRequest = field(default_factory=StopRequest)
    resume_command: Callable[[], str] | None = None
    """Returns the command that continues this work, as it is then; None: `bulkup resume RUN`."""
    repeated: tuple[str, ...] = ()
    """Options, as typed, that a run does not store. A proposed command repeats them."""
    allow_empty: bool = False
    """Run even if the query's kind does not exist, but a similar one does."""
    gate: bool = False
    """Begin to write only after a dry pass without failures (`--gate clean`)."""
    plan: PlanFile | None = None
    """The plan that the run carries out (`--plan`); None: no plan was given."""
    asks_for_approval: Callable[[TargetInfo], str | None] = lambda _: None
    """For a target whose runs need an approved plan, returns its name, such as `target prod`; for
    others None."""
    once: bool = False
    """Do nothing if a run has finished the same work before."""
    until_clean: bool = False
    """Repeat the run until a pass finds nothing to write."""
    on_done: Callable[[AlreadyDone], bool] | None = None
    """Called before work that was already done is done again; may raise. It returns False if nobody
    was told, and a warning follows. None: always warn."""
    carried: CarriedSteering = field(default_factory=CarriedSteering)
    """How the last run of this command was steered; shared by its runs."""
    typed: frozenset[str] | None = None
    """The names of the options that were given to this command; None: those that differ from the
    defaults."""
    known_places: list[Any] = field(default_factory=list)
    """What `runs/missing_kind.py` has found in several namespaces; shared by their runs."""
    waited_from: list[float] = field(default_factory=list)
    """When, by `clock`, this process began to wait for a file that another process had open; empty
    if it has not waited."""
    owns_process: bool = False
    """The process works for this context alone; False: a program has called `bulkup.run`."""
    reports_itself: bool = False
    """True: the caller saves and mails reports, and then marks them as `reported`. False: a report
    counts as reported once the listener has it."""
    reads_beside: bool = False
    """Nothing is written, so if another process serves the file of an embedded Datastore, read
    through that process."""
    typed_as: Path | None = None
    """`state_dir` as it was given. `state_dir` itself is made absolute."""
    started_in: str = field(default_factory=current_directory)
    """The current directory at the start. The updater may change it later."""

    def __post_init__(self) -> None:
        if self.typed_as is None:
            object.__setattr__(self, "typed_as", self.state_dir)
            object.__setattr__(self, "state_dir", Path(self.started_in, self.state_dir))

    @property
    def typed_options(self) -> frozenset[str]:
        return frozenset(self.options.asked()) if self.typed is None else self.typed

    @property
    def typed_state_dir(self) -> Path:
        """`state_dir` as the user gave it, for display."""
        return self.typed_as or self.state_dir

    def containment(self, target: Target | None) -> Containment:
        """What clients that user code creates may do. `target`: None if there is none."""
        return Containment(
            target,
            dry_run=self.options.dry_run,
            warn=lambda message: self.listener(Warned(message)),
            owns_process=self.owns_process,
        )

    def command_to_resume(self, run_id: str) -> str:
        """The command that continues a run."""
        if self.resume_command is not None:
            return self.resume_command()
        # Leave out what `bulkup tune` has set: the run keeps it, and an option would replace it.
        words = self.options.words(but=self.carried.steering.tuning.stored())
        return resume_command(run_id, self.typed_state_dir, [*words, *self.repeated])

    def shown(self, path: Path) -> str:
        """A path in the state directory, written the way the user gave that directory."""
        return str(self.typed_state_dir / path.relative_to(self.state_dir))

    def by_server_time(self, rpc: Rpc) -> RunContext:
        """The same context, with the time of the connection's server instead of this machine's."""
        return replace(self, clock=replace(self.clock, unix=rpc.server_time.now))

    def connect(self, target: Target) -> Rpc:
        """Open a connection whose calls are retried as the options say, but only briefly after a
        stop request."""
        policy = RetryPolicy(
            self.options.retry_for_s, stopping_s=self.stop.seconds, stopped_by=self.stop.error
        )
        rpc = open_rpc(target, policy, self.clock)
        rpc.on_tick = _SilenceWatch(rpc, self.listener)
        return rpc


class _SilenceWatch:
    """Warns, once, of a server that has stopped answering, before a run shows its progress. A
    server that has never answered is soon given up, and that error names it."""

    def __init__(self, rpc: Rpc, listener: Listener) -> None:
        self._rpc, self._listener = rpc, listener
        self._has_said = False

    def __call__(self) -> None:
        address, seconds = self._rpc.unanswered()
        if self._rpc.contacted and seconds >= UNANSWERED_S and not self._has_said:
            self._has_said = True
            message = f"waiting for {address}, which has not answered for {seconds:.0f} s"
            self._listener(Warned(message, WarningKind.WAITING))
