"""Entities that several processes have written: the order of the writes, and who else wrote."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from bulkup.state.taking_back import SharedWrite, in_order, is_torn


def content(value: object) -> bytes:
    return b"" if value is None else repr(value).encode()


@dataclass
class History:
    """What happens to one entity, write by write, and what each process notes of its own."""

    rng: random.Random
    values: int
    """How many different contents there are: with few, states come again."""
    lost: float
    """How often a process is killed before it knows the version that it has made."""
    blind: float = 0.0
    deletes: bool = True
    idle: float = 0.0
    """How often a write leaves what is there, and with it the version."""
    value: int | None = 0
    version: int = 1
    logs: list[list[SharedWrite]] = field(default_factory=lambda: [[], [], []])
    applied: list[int] = field(default_factory=list)

    def write(self) -> None:
        before, base = self.value, self.version
        self.value = self.rng.randrange(self.values)
        if self.deletes and before is not None and self.rng.random() < 0.25:
            self.value = None
        if self.idle and self.rng.random() < self.idle:
            self.value = before
        else:
            self.version += self.rng.randint(1, 3)
        guarded = self.rng.random() >= self.blind
        known = self.rng.random() >= self.lost
        self.applied.append(len(self.applied) + 1)
        base = base if guarded and before is not None else 0
        self.rng.choice(self.logs).append(
            SharedWrite(
                self.applied[-1], self.version if known else 0, base, guarded,
                content(before), content(self.value),
            )
        )  # fmt: skip

    def by_another(self, value: int) -> None:
        self.value = value
        self.version += 1

    def noted(self) -> list[SharedWrite]:
        return [one for log in self.logs for one in log]


def test_writes_with_a_version_or_a_guard_are_put_in_order() -> None:
    tried = 0
    for seed in range(200):
        history = History(random.Random(seed), values=3, lost=0.3)
        for _ in range(12):
            history.write()
        writes = history.noted()
        if all(one.version or one.base for one in writes):  # else made anew, and killed then
            ordered = in_order(writes)
            assert [one.id for one in ordered] == history.applied, seed
            assert not is_torn(ordered), seed
            tried += 1
    assert tried > 20


def test_writes_of_which_only_the_contents_are_known_are_put_in_order() -> None:
    """Where no state comes twice, each write says what was before it."""
    for seed in range(200):
        history = History(random.Random(seed), values=10**9, lost=0.5, blind=0.5, deletes=False)
        for _ in range(12):
            history.write()
        ordered = in_order(history.noted())
        assert [one.id for one in ordered] == history.applied, seed
        assert not is_torn(ordered), seed


def test_writes_that_change_nothing_come_after_the_one_that_made_their_version() -> None:
    """A put of the same entity, and on Firestore's emulator a delete of an absent one, get the
    version that is already there."""
    for seed in range(300):
        history = History(random.Random(seed), values=10**9, lost=0.0, blind=0.7, idle=0.5)
        for _ in range(12):
            history.write()
        ordered, writes = in_order(history.noted()), {one.id: one for one in history.noted()}
        applied = [writes[number] for number in history.applied]
        assert [one.content for one in ordered] == [one.content for one in applied], seed
        assert ordered[-1].version == history.version, seed
        assert not is_torn(ordered), seed


def test_of_two_processes_that_wrote_the_same_the_one_whose_guard_held_was_first() -> None:
    """The other one had looked before that, and changed nothing any more."""
    made = SharedWrite(2, 7, 5, True, b"was", b"new")
    idle = SharedWrite(1, 7, 0, False, b"was", b"new")
    ordered = in_order([idle, made])
    assert ordered == [made, idle]
    assert not is_torn(ordered)


def test_a_write_of_somebody_else_in_between_is_found() -> None:
    for seed in range(100):
        rng = random.Random(seed)
        history = History(rng, values=10**9, lost=0.3, deletes=False)
        between = rng.randint(1, 7)
        for number in range(8):
            if number == between:
                history.by_another(-1)
            history.write()
        assert is_torn(in_order(history.noted())), seed


def test_two_blind_writes_at_the_same_time_are_the_runs_own() -> None:
    """Both processes have looked up the entity before either wrote it."""
    first = SharedWrite(1, 7, 0, False, b"was", b"a")
    second = SharedWrite(2, 5, 0, False, b"was", b"b")
    ordered = in_order([first, second])
    assert ordered == [second, first]
    assert not is_torn(ordered)


def test_a_blind_write_over_what_somebody_else_wrote_is_found() -> None:
    writes = [SharedWrite(1, 5, 0, False, b"was", b"a"), SharedWrite(2, 9, 0, False, b"x", b"b")]
    assert is_torn(in_order(writes))
