"""Holding a run: the lease in its run record, taken, renewed while working, given back.

The lease keeps runners out of each other's way; it is not what keeps the data right. That is the
markers' work: even two runners that both believe they hold a run apply nothing twice.
"""

from __future__ import annotations

import getpass
import math
import os
import platform
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bulkup.core.clock import Clock
from bulkup.core.errors import HeldError, NotFoundError
from bulkup.core.model import Counts, RunState
from bulkup.core.records import Shard
from bulkup.core.stop import StopRequest
from bulkup.datastore.call_error import CallError
from bulkup.state.run_records import LEASE_S, RENEW_S, Holder, Ledger, RecordMovedOn, RunRecord

RETRY_RENEWAL_S = 3.0
"""After a renewal that did not get through; several fit into what a lease has left."""

WAIT_STEP_S = 2.0
"""How often a waiting runner looks whether the run is free."""


def this_process() -> Holder:
    return Holder(
        runner=uuid.uuid4().hex,
        who=f"{_user()}@{platform.node() or 'localhost'}",
        machine=_machine(),
        pid=os.getpid(),
        began=_began(os.getpid()),
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid())


def _machine() -> str:
    try:
        return f"{platform.node()}/{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except OSError:
        return platform.node()


def _began(pid: int) -> str:
    """When a process began, in its system's own terms; empty when there is no such process."""
    try:
        # The name of the command, in brackets, may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"


def has_died(holder: Holder) -> bool:
    """It was a process of this machine, and is no more. A container may share neither."""
    return holder.machine == _machine() and _began(holder.pid) != holder.began


def take(
    ledger: Ledger,
    record: RunRecord,
    holder: Holder,
    *,
    clock: Clock,
    stop: StopRequest,
    wait_s: float = 0.0,
    on_wait: Callable[[str], None] = lambda _: None,
) -> RunRecord:
    """Make `holder` the runner of a run; gives the entry as written.

    Waits up to `wait_s` for another runner to end or to lose its lease, saying so once. Raises
    HeldError when that was not enough, NotFoundError when the run ended meanwhile, CallError.
    """
    give_up = clock.monotonic() + wait_s
    said = False
    while True:
        now = clock.unix()
        other = record.holder
        if other is None or not record.is_held(now) or has_died(other):
            try:
                return ledger.write(
                    replace(
                        record,
                        state=RunState.RUNNING,
                        reason="",
                        holder=holder,
                        lease_until=int(now + LEASE_S),
                        generation=record.generation + 1,
                    )
                )
            except RecordMovedOn:
                pass  # somebody was faster; look who
        elif clock.monotonic() >= give_up:
            left = record.lease_until - now
            raise HeldError(
                f"{other.who} (process {other.pid}) works on run {record.run_info.run_id}, last "
                f"heard of {LEASE_S - left:.0f} s ago; wait for it (--wait 10m does that), or stop "
                "it (its work is safe) and try again"
            )
        else:
            if not said:
                on_wait(f"waiting for {other.who} (process {other.pid}), who works on this run")
                said = True
            clock.sleep(WAIT_STEP_S)
            stop.raise_if_asked()
        record = _still_open(ledger.read(record.run_info.run_id), record.run_info.run_id)


def _still_open(record: RunRecord | None, run_id: str) -> RunRecord:
    """While we looked, the run may have come to its end; then it must not begin again."""
    if record is None:
        raise NotFoundError(
            f"the run record of {run_id} has just been removed: its runner has finished the run "
            "(--no-record), or somebody has deleted it; `bulkup list` shows what is known here"
        )
    if record.state.is_over:
        who = record.holder.who if record.holder else "another runner"
        raise NotFoundError(
            f"run {run_id} has just come to its end ({record.state.value}, by {who}); "
            "there is nothing left to do"
        )
    return record


@dataclass(frozen=True)
class _Change:
    """A change of the record under way."""

    record: RunRecord
    call: Any
    changes: dict[str, Any]
    then: Callable[[], None]


class Lease:
    """A taken run. `tick` is called about every second, and starts what is due."""

    def __init__(
        self,
        ledger: Ledger,
        record: RunRecord,
        *,
        clock: Clock,
        facts: Callable[[], dict[str, Any]],
    ) -> None:
        """`facts`: fields of the entry that each renewal brings up to date."""
        assert record.holder is not None
        self.record = record
        self._holder = record.holder
        self._ledger = ledger
        self._clock = clock
        self._facts = facts
        self._renewing: tuple[RunRecord, Any] | None = None
        self._changing: _Change | None = None
        self._next = clock.monotonic() + RENEW_S
        self._busy = False

    @property
    def runner(self) -> str:
        return self._holder.runner

    def tick(self) -> None:
        """Renew when it is time, without waiting for the answer. Raises HeldError when the run
        was taken by somebody else."""
        if self._busy:
            return  # the call that is being waited for is the lease's own
        if self._changing is not None:
            if self._changing.call.done() and not self._changing.call.has_failed:
                self.see_change()  # else it is for those to see who look after the change alone
        elif self._renewing is not None:
            if self._renewing[1].done():
                with self._alone():
                    self._see_renewal()
        elif self._clock.monotonic() >= self._next:
            record = self._renewed(**self._facts())
            self._next = self._clock.monotonic() + RENEW_S
            self._renewing = record, self._ledger.begin_write(record)

    def make_sure(self) -> None:
        """Before a commit: when the lease has run out (a suspended laptop, a handler that took
        minutes), ask whether the run is still ours. Raises HeldError, CallError."""
        if self._clock.unix() >= self.record.lease_until:
            self.update(**self._facts())

    def _renewed(self, **changes: Any) -> RunRecord:
        lease = {"lease_until": int(self._clock.unix() + LEASE_S)}
        return replace(self.record, **{**lease, **changes})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _see_renewal(self) -> None:
        assert self._renewing is not None
        record, call = self._renewing
        self._renewing = None
        try:
            self.record = self._ledger.end_write(record, call)
        except RecordMovedOn:
            self._find_out()
        except CallError:
            self._next = self._clock.monotonic() + RETRY_RENEWAL_S

    def _find_out(self) -> None:
        """The record is not as it was left: an unanswered renewal of ours, or another runner."""
        there = self._ledger.read(self.record.run_info.run_id)
        if there is not None and there.holder == self._holder:
            self.record = there
            return
        if there is None:
            raise HeldError(
                f"the run record of {self.record.run_info.run_id} was removed from Datastore "
                "while it ran; this runner has stopped, what it wrote is safe, and "
                "`bulkup resume` goes on"
            )
        who = there.holder.who if there.holder else "another runner"
        raise HeldError(
            f"{who} has taken over run {self.record.run_info.run_id}; this runner has stopped, "
            "nothing was written twice"
        )

    def update(
        self,
        *,
        over: bool = False,
        successor: RunRecord | None = None,
        extra_mutations: Sequence[bytes] = (),
        **changes: Any,
    ) -> None:
        """Change the record and wait for it; `over` ends the run, and begins its successor. For
        `along` see `Ledger.write`.

        Raises HeldError, CallError.
        """
        with self._alone():
            self._settle()
            self._write(changes, over, successor, extra_mutations)

    def _write(
        self,
        changes: dict[str, Any],
        over: bool = False,
        successor: RunRecord | None = None,
        extra_mutations: Sequence[bytes] = (),
    ) -> None:
        while True:
            try:
                self.record = self._ledger.write(
                    self._renewed(**changes),
                    over=over,
                    successor=successor,
                    extra_mutations=extra_mutations,
                )
                return
            except RecordMovedOn:
                self._find_out()
            if self.record.state.is_over and not changes.get("state", self.record.state).is_over:
                return  # an earlier end got there after all; it is not taken back
            if successor and self._ledger.read(successor.run_info.run_id) is not None:
                # Begun by an earlier end of this run, whose answer was lost. The claim is its.
                successor, over = None, False

    def begin_update(self, then: Callable[[], None], **changes: Any) -> None:
        """Change the record without waiting for it; `then` is called once that is in Datastore,
        by `see_change`, or by the next call that looks after the lease, the runner's end at the
        latest. It never is when the change could not be made: whoever finds that out raises
        HeldError or CallError."""
        with self._alone():
            self._settle()
            record = self._renewed(**changes)
            self._changing = _Change(record, self._ledger.begin_write(record), changes, then)

    def see_change(self) -> None:
        """Take in what `begin_update` has begun, if it has been answered. Raises HeldError,
        CallError."""
        change = self._changing
        if not self._busy and change is not None and not change.call.is_in_flight:
            with self._alone():
                self._settle()

    def _settle(self) -> None:
        """Of what is under way for the record there is nothing any more: the next write needs the
        version that this one gave it."""
        if self._renewing is not None:
            self._see_renewal()
        change = self._changing
        if change is None:
            return
        # It stays until it is made: whoever waited for a call of his own may have taken a
        # CallError of this one for his, and gone on.
        try:
            self.record = self._ledger.end_sure_write(change.record, change.call)
        except RecordMovedOn:
            self._find_out()
            # It was ours all along: an earlier renewal got there after all, and this did not.
            self._write(change.changes)
        self._changing = None
        change.then()

    def drop_what_is_under_way(self) -> None:
        """Do not wait for it: of that and the next write, the second is refused for its version."""
        self._renewing = self._changing = None

    def cut(self, gaps: list[Shard], *, counts: Counts, fenced_until: int) -> None:
        """Replace all shards by new ones over `gaps`. `counts`: what is done by now.

        Raises HeldError, CallError.
        """
        first = self.record.next_shard
        self.update(
            shards=tuple(replace(gap, id=first + i) for i, gap in enumerate(gaps)),
            next_shard=first + len(gaps),
            settled=counts,
            counts=counts,
            fenced_until=fenced_until,
        )

    def forget(self) -> None:
        """Remove the record of a run that leaves none (`--no-record`). Raises CallError."""
        self._ledger.remove(self.record)

    def give_back(
        self,
        state: RunState,
        reason: str,
        counts: Counts,
        *,
        fenced_until: int,
        sweep_at: int,
        successor: RunRecord | None = None,
        extra_mutations: Sequence[bytes] = (),
    ) -> None:
        """The runner's end, or the run's. Raises HeldError, CallError."""
        self._next = math.inf  # what comes now renews nothing
        end = {
            "state": state,
            "reason": reason[:1000],
            "counts": counts,
            "fenced_until": fenced_until,
            "sweep_at": sweep_at,
            "ended": int(self._clock.unix()),
            "lease_until": 0,
        }
        self.update(
            over=state.is_over,
            successor=successor,
            extra_mutations=extra_mutations,
            **{**self._facts(), **end},
        )

    def swept(self) -> None:
        """The markers of the finished run are gone. Raises HeldError, CallError."""
        self.update(sweep_at=0, lease_until=0)
