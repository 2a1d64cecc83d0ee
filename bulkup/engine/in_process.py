"""Handlers in this process, in the thread that also reads and commits."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bulkup.datastore.greenlets import check_not_replaced
from bulkup.engine.accounts import Accounts, Sink
from bulkup.engine.commit import Committer
from bulkup.engine.handle import Handler
from bulkup.engine.handled import Handled

if TYPE_CHECKING:
    from bulkup.engine.shard_runner import ShardRunner


class InProcessPool:
    """A HandlerPool without processes."""

    def __init__(self, handler: Handler, accounts: Accounts) -> None:
        self._handler = handler
        self._accounts = accounts
        self.handle_again = handler.handle_again

    @property
    def moves(self) -> bool:
        return self._handler.moves

    def begin_round(self) -> None:
        """Nothing arrives: `step` handles entities at once."""

    def collect(self, shards: Iterable[ShardRunner]) -> None:
        """Nothing is outstanding between two steps."""

    def step(self, shard: ShardRunner) -> bool:
        committer, throttle = shard.committer, shard.throttle
        if not shard.page:
            return False
        if not committer.has_room():
            committer.note_waiting()
            return False
        size = shard.scan.page_size = throttle.batch_size()
        span = shard.page[:size]
        if not throttle.admit(len(span)):
            return False
        throttle.limits.set_batch_size(size)
        self.handle(span, committer, committer)
        committer.end_page()
        shard.page = shard.page[size:]
        shard.passed(span[-1])
        return True

    def handle(
        self, results: Sequence[Any], sink: Sink, committer: Committer | None = None
    ) -> None:
        """Handle entities one by one and add them to the sink.

        `committer`: the sink of a run, which knows what must be read again first.
        Raises HandlerOverBudget, and what `Control.check` and the sink raise.
        """
        accounts, control = self._accounts, self._accounts.control
        monotonic, handle, add = accounts.monotonic, self._handler.handle, sink.add
        foreign: Container[bytes] = committer.foreign if committer is not None else ()
        is_left_out = sink.left_out()
        with self._handler.open():
            for result in results:
                now = monotonic()
                if now >= control.next_check or control.handled >= control.limit:
                    control.check()
                key: bytes = result.entity.key
                if is_left_out is not None and is_left_out(result):
                    continue
                if key in foreign:
                    assert committer is not None
                    fresh = committer.read_again(key)
                    if fresh is None:
                        item = Handled.gone(key, result.cursor)
                    else:
                        item = handle(fresh, key, result.cursor)
                else:
                    item = handle(result, key, result.cursor)
                # As Accounts.enter does, without a call for each entity.
                control.handled += 1
                if item.failure is not None:
                    accounts.budget.spend_handling(item.failure)
                if item.log_lines:
                    for line in item.log_lines:
                        accounts.log(line)
                add(item)
        check_not_replaced()
