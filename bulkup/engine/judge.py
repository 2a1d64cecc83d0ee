"""Whether an entity is done: `is_done` says so, or handling it again would change nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bulkup.authoring.acceptance import acceptance_of
from bulkup.authoring.updater import Updater
from bulkup.core.verification import STEP
from bulkup.datastore.entity_diff import changed_names, unwritten_names
from bulkup.datastore.greenlets import check_not_replaced
from bulkup.datastore.keys import key_bytes, key_of
from bulkup.datastore.messages import EntityPb
from bulkup.datastore.rpc import Rpc
from bulkup.engine.any_handler import AnyHandler
from bulkup.engine.async_handler import AsyncHandler
from bulkup.engine.call_setup import CallSetup
from bulkup.engine.handle import Handler
from bulkup.engine.handled import Handled, Write, written
from bulkup.engine.key_handler import make_handler
from bulkup.engine.scan import QueryPlan

_NOT_ASKED: Any = object()


@dataclass
class Judged:
    """An entity that was judged."""

    result: Any
    """The PageResult."""
    item: Handled
    """With a failure, unless the entity is done."""
    would: list[str] = field(default_factory=list)
    """What handling it again would do: `change full_name, age`."""
    others: list[Write] = field(default_factory=list)
    """Writes to other entities, which may already be as they would be written."""

    @property
    def is_done(self) -> bool:
        return self.item.failure is None

    @property
    def digest(self) -> bytes:
        """Digest of what handling the entity again would make of it: the same each time, unless the
        updater uses random numbers or the time."""
        digest = hashlib.blake2b(digest_size=8)
        for write in self.item.writes:
            if write.key == self.item.key:
                # Deterministic, because the order of the properties in the mutation must not count.
                digest.update(written(write).SerializeToString(deterministic=True))
        return digest.digest()


class Judge:
    """Judges entities. `name`: the updater's name. Raises UsageError if its `is_done` cannot be
    used."""

    def __init__(self, updater: Updater, name: str, query: QueryPlan, rpc: Rpc) -> None:
        self._rpc = rpc
        self._is_done = acceptance_of(updater, name)
        self._answer: Any = _NOT_ASKED
        self._handler: AnyHandler = (
            make_handler(updater, query, rpc, keeps_before=True)
            if self._is_done is None
            else Handler(CallSetup(updater, query, keeps_before=True, calls=self._ask))
        )

    @property
    def by_is_done(self) -> bool:
        return self._is_done is not None

    def close(self) -> None:
        if isinstance(self._handler, AsyncHandler):
            self._handler.close()

    def judge(
        self, results: Sequence[Any], before_each: Callable[[], None] = lambda: None
    ) -> list[Judged]:
        """Judge the entities of PageResults. `before_each` may raise.

        Raises CallError when Datastore does not answer the handler's own reads, or ours.
        """
        judged: list[Judged] = []
        if isinstance(self._handler, AsyncHandler):
            self._handler.on_wait = before_each
        with self._handler.open():
            items = self._handler.handle_many(self._each(results, before_each))
            for result, item in zip(results, items, strict=True):
                one = Judged(result, item)
                if item.failure is None:
                    self._note(one)
                judged.append(one)
        check_not_replaced()
        self._compare_others(judged)
        for one in judged:
            if one.would and one.item.failure is None:
                _fail(one.item, f"a second handling would {' and '.join(one.would)}")
        return judged

    def _each(self, results: Sequence[Any], before_each: Callable[[], None]) -> Iterator[Any]:
        for result in results:
            before_each()
            self._answer = _NOT_ASKED
            yield result

    def _ask(self, entity: Any) -> None:
        assert self._is_done is not None
        self._answer = self._is_done(entity)

    def _note(self, one: Judged) -> None:
        item, answer = one.item, self._answer
        if self._is_done is not None:
            if item.writes:
                _fail(item, "is_done puts or deletes entities; it may only look at the one it gets")
            elif answer is None:
                _fail(item, "is_done returned None; return True or False")
            elif not answer:
                _fail(item, "is_done returned False")
            return
        own = [write for write in item.writes if write.key == item.key]
        one.others = [write for write in item.writes if write.key != item.key]
        for write in own:
            if write.deletes:
                one.would.append("delete it")
                continue
            before = EntityPb.FromString(item.before.SerializeToString())
            names = changed_names(before, written(write))
            if names:
                one.would.append(f"change {', '.join(names)}")
        if item.unwritten:
            names = unwritten_names(self._handler.handled) or ("it",)
            one.would.append(f"change {', '.join(names)} without writing that (a put is missing)")

    def _compare_others(self, judged: Sequence[Judged]) -> None:
        """Compare the writes to other entities with what is stored: what would be written unchanged
        does not count."""
        wanted = {
            key_bytes(key_of(write.key)): key_of(write.key)
            for one in judged
            for write in one.others
            if not write.incomplete
        }
        stored = self._rpc.lookup(list(wanted.values())) if wanted else {}
        for one in judged:
            one.would += dict.fromkeys(_done_to_others(one.others, stored))


def _done_to_others(writes: Sequence[Write], stored: dict[bytes, Any]) -> Iterator[str]:
    for write in writes:
        message = written(write)
        if write.incomplete:
            yield f"create an entity of the kind {message.key.path[-1].kind}"
            continue
        there = stored.get(key_bytes(key_of(write.key)))
        if write.deletes:
            if there is not None:
                yield f"delete another entity of the kind {message.path[-1].kind}"
        elif there is None:
            yield f"create an entity of the kind {message.key.path[-1].kind}"
        elif names := changed_names(there.entity, message):
            kind = message.key.path[-1].kind
            yield f"change {', '.join(names)} of another entity of the kind {kind}"


def _fail(item: Handled, error: str) -> None:
    """Like `Handled.fail`, but keeps the writes, which are compared later."""
    writes = item.writes
    item.fail(STEP, error)
    item.writes = writes
