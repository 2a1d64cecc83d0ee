"""Calls an updater's `handle_batch`: entities in; out come, for each entity, its own writes or its
own failure.

What each entity asks for is kept apart, so a batch may be committed in parts, and one bad entity
costs one entity. For this, each write belongs to one entity of the batch: a write of such an entity
belongs to that entity, and any other write to the entity that is named with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from google.cloud.datastore import Entity, Key

from bulkup.authoring import wrong_owner
from bulkup.authoring.call_threads import end_call
from bulkup.authoring.running import writing_to
from bulkup.authoring.writes import WriteSink
from bulkup.authoring.wrong_result import method_result
from bulkup.core.errors import HeldError
from bulkup.core.events import WarningKind
from bulkup.core.places import Place
from bulkup.core.stop import end_if_fork
from bulkup.core.user_traceback import error_line, one_line
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_bytes, key_of, key_text, key_to_pb
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.pages import PageResult
from bulkup.datastore.read_cache import ReadCache
from bulkup.datastore.reads import ABSENT
from bulkup.engine.call_setup import CallSetup
from bulkup.engine.call_slot import CallSlot
from bulkup.engine.handled import Handled, Write
from bulkup.engine.previewed import CallReads


class _Given(NamedTuple):
    """An entity of a batch, as it was read."""

    result: Any
    key: bytes
    cursor: bytes


class _Slot(CallSlot):
    """The part of a batch that belongs to one entity."""

    batch: BatchHandler
    failed: BaseException | str | None = None
    """What `fail` was called with."""

    def _add(self, key: bytes, write: Write | None) -> None:
        if key != self._key and not (write is not None and write.incomplete):
            self.batch.claim(key, self)
        super()._add(key, write)

    def _is_open(self) -> bool:
        return self.batch.is_in_call(self)

    def written(self, key: bytes) -> Write | None:
        return self._writes.get(key)

    @property
    def own_key(self) -> bytes:
        return self._key


class _Writes(dict[bytes, Any]):
    """What the current call has put and deleted, so that its reads see it."""

    def __init__(self, batch: BatchHandler) -> None:
        super().__init__()
        self._batch = batch

    def get(self, key: bytes, default: Any = None) -> Any:
        return self._batch.written(key)


class BatchHandler(WriteSink):
    """Like a `Handler`, for batches."""

    def __init__(self, setup: CallSetup) -> None:
        self._updater = setup.updater
        self._is_done = setup.is_done
        self._may_be_absent = setup.may_be_absent
        slots = replace(setup, calls=lambda _: None)

        def make_slot(beside: _Slot | None) -> _Slot:
            """Make one more slot, which shares with `beside` (see `CallSlot`)."""
            slot = _Slot(slots, beside)
            slot.batch = self
            return slot

        first = make_slot(None)
        self.previewed = first.previewed
        self.hints = first.hints
        self.reads = CallReads(_Writes(self), first.previewed)
        self.reads.keeps_messages = setup.keeps_images
        self.reads.cache = self._cache = ReadCache()
        self.reads.on_committed = self._note_committed
        first.reads_into(self.reads)
        self._make_slot = make_slot
        self._slots = [first]
        self._active: list[_Slot] = []
        """The slots of the current call."""
        self._by_id: dict[int, _Slot] = {}
        self._by_key: dict[bytes, _Slot] = {}
        """Filled when it is first needed; empty until then."""
        self._owners: dict[bytes, _Slot] = {}
        """By key that is not in the batch: the slot that writes it."""
        self.moves = False
        self.handled: LazyEntity
        """The entity of the outcome that was yielded last."""

    def open(self) -> AbstractContextManager[None]:
        return writing_to(self, self._updater)

    def watch_client(self, on_commit: Callable[[], None] | None) -> None:
        self.reads.on_commit = on_commit

    @property
    def requests(self) -> int:
        return int(self.reads.requests)

    @property
    def commits_itself(self) -> bool:
        return bool(self.reads.commits_itself)

    # --- calling the updater ---

    def handle_many(self, results: Iterable[Any]) -> Iterator[Handled]:
        """Handle PageResults with one call. If it raises, each entity that it has not named with
        `fail` is handled again alone.

        What one call has read is noted with the first of its entities (`Handled.together`).
        """
        return self._handle([_Given(r, r.entity.key, r.cursor) for r in results])

    def forget_reads(self) -> None:
        """Nothing to forget: each call reads anew."""

    def handle(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        return next(self._handle([_Given(result, key, cursor)]))

    def handle_again(self, item: Handled, result: Any) -> None:
        item.reset()
        with self.open():
            item.adopt(self.handle_once_more(result, item.key, item.cursor))

    def handle_once_more(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        return next(self._handle([_Given(result, key, cursor)], once_more=True))

    def _handle(self, given: Sequence[_Given], *, once_more: bool = False) -> Iterator[Handled]:
        for one, (item, slot) in zip(given, self._call(given, once_more), strict=True):
            outcome = item
            if outcome is None:
                ((outcome, slot),) = self._call([one], once_more)
            assert outcome is not None
            if slot is not None:
                self.handled = slot.own
            yield outcome

    def _call(
        self, given: Sequence[_Given], once_more: bool
    ) -> Sequence[tuple[Handled | None, _Slot | None]]:
        """Call the updater once. If it raises for several entities, the outcome of each one that it
        has not named with `fail` is None: that entity must be handled alone."""
        self.reads.clear()
        self._cache.results.clear()
        outcomes: list[tuple[Handled | None, _Slot | None]] = []
        try:
            for one in given:
                item = Handled(one.key, one.cursor)
                outcomes.append((item, self._begin(one, item, once_more)))
            error = self._call_updater() if self._active else None
            reads = tuple(self.reads.versions)
            is_alone = len(self._active) == 1
            for position, (_, slot) in enumerate(outcomes):
                if slot is None:
                    continue
                failed = slot.failed
                if failed is None and error is not None:
                    if not is_alone:
                        outcomes[position] = None, None
                        continue
                    failed = error
                outcome = slot.end(failed)
                self.moves = self.moves or slot.moves
                if error is not None:
                    outcome.reads = reads
            if error is not None and any(item is None for item, _ in outcomes):
                say = partial(self._repeated, error)
                self.hints.note(WarningKind.BATCH_REPEATED, "", say)
            if error is None and reads and outcomes[0][0] is not None:
                outcomes[0][0].reads, outcomes[0][0].together = reads, len(outcomes)
            return outcomes
        finally:
            self._active.clear()
            self._by_id.clear()
            self._by_key.clear()
            self._owners.clear()

    def _begin(self, one: _Given, item: Handled, once_more: bool) -> _Slot | None:
        """The slot of an entity to call the updater with; None if its outcome is known without a
        call."""
        if self._may_be_absent and one.result.version == ABSENT:
            item.vanished = True
            return None
        if len(self._active) == len(self._slots):
            slot = self._make_slot(self._slots[0])
            slot.reads_into(self.reads)
            self._slots.append(slot)
        slot = self._slots[len(self._active)]
        slot.failed = None
        result = one.result
        if slot.patches:  # a batch that raises is handled again, as it was read
            result = PageResult.FromString(result.SerializeToString())
        try:
            entity = slot.begin(result, item, once_more=once_more)
            if self._is_done is not None and self._is_done(entity):
                return None
        except (HeldError, KeyboardInterrupt):
            raise
        except BaseException as error:
            slot.end(_of_entity(error))
            return None
        self._active.append(slot)
        self._by_id[id(entity)] = slot
        return slot

    def _call_updater(self) -> BaseException | None:
        """Call the updater. Returns what it raised, if anything; raises what ends the run."""
        self.own = object()  # tells this call from others, and is nothing that could be put
        try:
            returned: Any = self._updater.handle_batch(  # type: ignore[func-returns-value]
                [slot.own for slot in self._active]
            )
            if returned is not None:
                raise method_result(self._updater, returned, "handle_batch")
        except (HeldError, KeyboardInterrupt):
            raise
        except BaseException as error:
            return _of_entity(error)
        finally:
            if self.is_shared:
                end_call(self)
        return None

    def _repeated(self, error: BaseException) -> tuple[str, Sequence[Place]]:
        function = self._updater._decorated
        name = "handle_batch" if function is None else function.__name__
        instead = (
            "call self.fail(entity, error) for those that fail, and return"
            if function is None
            else "return an exception as the result of each entity that fails"
        )
        left = sum(slot.failed is None for slot in self._active)
        named = "named no" if left == len(self._active) else "did not name every"
        return (
            f"{name} raised {error_line(error)} and {named} entity, so it is called again "
            f"with each of the {left} alone: {instead}",
            (),
        )

    def _note_committed(self, versions: list[tuple[bytes, int]]) -> None:
        self._cache.results.clear()
        for slot in self._active:
            slot._note_committed(versions)

    # --- called by the updater ---

    def put(self, entity: Entity) -> None:
        self._slot_of(entity, "put").put(entity)

    def delete(self, key: Key) -> None:
        self._slot_of(key, "delete").delete(key)

    def log(self, line: str) -> None:
        self._active[0].log(line)

    def fail(self, entity: Entity | Key, error: BaseException | str) -> None:
        slot = self._find(entity)
        if slot is None:
            raise wrong_owner.fails_nobody(_named(entity))
        if not isinstance(error, BaseException | str):
            raise wrong_owner.no_error(error)
        slot.failed = one_line(error) or "failed" if isinstance(error, str) else error

    def owned_by(self, owner: Entity | Key) -> WriteSink:
        slot = self._find(owner)
        if slot is None:
            raise wrong_owner.no_owner(_named(owner))
        return slot

    def _slot_of(self, written: Entity | Key, does: str) -> _Slot:
        slot = self._find(written)
        if slot is None:
            raise wrong_owner.nobodys(_named(written), does)
        return slot

    def _find(self, entity_or_key: Entity | Key) -> _Slot | None:
        slot = self._by_id.get(id(entity_or_key))
        if slot is not None:
            return slot
        key = entity_or_key.key if isinstance(entity_or_key, Entity) else entity_or_key
        if not isinstance(key, Key) or key.is_partial:
            return None
        return self._keys().get(key_bytes(key_to_pb(key)))

    def _keys(self) -> dict[bytes, _Slot]:
        if not self._by_key:  # a page may encode the same key differently
            self._by_key.update((key_bytes(key_of(s.own_key)), s) for s in self._active)
        return self._by_key

    # --- called by slots ---

    def claim(self, key: bytes, slot: _Slot) -> None:
        """Note that a slot writes this key. Raises ValueError if the key is another slot's."""
        member = self._keys().get(key)
        if member is slot:
            return
        name, own = key_text(key_of(key)), key_text(key_of(slot.own_key))
        if member is not None:
            raise wrong_owner.own(name, own)
        first = self._owners.setdefault(key, slot)
        if first is not slot:
            raise wrong_owner.several(name, key_text(key_of(first.own_key)), own)

    def is_in_call(self, slot: _Slot) -> bool:
        return self._updater._open_sink is self and slot in self._active

    def written(self, key: bytes) -> Write | None:
        """What this call has put or deleted under a key."""
        if not self._active:
            return None
        member = self._keys().get(key)
        if member is not None:
            return member.written(member.own_key) or member.written(key)
        owner = self._owners.get(key)
        return None if owner is None else owner.written(key)


def _of_entity(error: BaseException) -> BaseException:
    """Return an error that is the entity's fault; raise it if it says that Datastore is
    unavailable."""
    end_if_fork()
    if isinstance(error, CallError) and error.worth_another_try:
        raise error
    return error


def _named(entity_or_key: Any) -> str:
    key = entity_or_key.key if isinstance(entity_or_key, Entity) else entity_or_key
    if not isinstance(key, Key):
        return f"a {type(entity_or_key).__name__}"
    return key_text(key_to_pb(key))
