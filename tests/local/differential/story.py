"""Sequences of commits, sent to two servers, with each server's state after every step.

A step names versions by what they are ("the current one", "an old one"), because each server has
its own numbers, which are filled in when the step is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.local.differential.answers import Ranks, Refusal, say_entity, say_value
from tests.local.differential.build import Place
from tests.local.differential.compare import Answer, Exchange, Judge, say_request
from tests.local.differential.wire import REQUESTS, Mutation, Reply, Wire

NONE, CURRENT, OLD, ZERO, FUTURE = "none", "current", "old", "zero", "future"
"""What a condition on a version requires."""

MODES = {"NT": 2, "TX": 1, "SU": 1}
"""NON_TRANSACTIONAL; in a transaction begun before; in a single-use transaction."""


@dataclass(frozen=True)
class Write:
    """One mutation. `path` names the entity; `properties` is None for a delete."""

    operation: str
    path: tuple[str | int | None, ...]
    properties: tuple[tuple[str, Any], ...] = ()
    base_version: str = NONE
    update_time: str = NONE
    strategy: int = 0
    mask: tuple[str, ...] | None = None
    transforms: tuple[Any, ...] = ()

    def __str__(self) -> str:
        said = [self.operation, "/".join(map(str, self.path)), str(dict(self.properties))]
        said += [f"base_version={self.base_version}"] * (self.base_version != NONE)
        said += [f"update_time={self.update_time}"] * (self.update_time != NONE)
        said += [f"strategy={self.strategy}"] * bool(self.strategy)
        said += [f"mask={self.mask}"] * (self.mask is not None)
        return " ".join([*said, *(say_request(t) for t in self.transforms)])


@dataclass(frozen=True)
class Step:
    mode: str
    writes: tuple[Write, ...]

    def __str__(self) -> str:
        return f"{self.mode}({'; '.join(map(str, self.writes))})"


@dataclass
class Teller:
    """One server in the middle of a story: what it stores, and the versions it has reported."""

    wire: Wire
    place: Place
    paths: tuple[tuple[str | int, ...], ...]
    versions: dict[Any, list[int]] = field(default_factory=dict)
    times: dict[Any, list[Any]] = field(default_factory=dict)
    ranks: Ranks = field(default_factory=Ranks)
    moments: dict[int, int] = field(default_factory=dict)
    """Each version, and the last version of the commit that it is from."""
    said: list[list[Any]] = field(default_factory=list)

    def tell(self, step: Step) -> None:
        request = self.commit(step)
        if step.mode == "TX":
            begun = self.wire.call(
                "BeginTransaction", REQUESTS["BeginTransaction"](project_id=self.place.project)
            )
            assert begun.code == "OK", begun
            request.transaction = begun.body.transaction
        elif step.mode == "SU":
            request.single_use_transaction.read_write.SetInParent()
        reply = self.wire.call("Commit", request)
        self.said.append([*self._answer(step, reply), "then", *self._holdings()])
        new = self.ranks.seen - self.moments.keys() - {0}
        self.moments.update(dict.fromkeys(new, max(new, default=0)))

    def commit(self, step: Step) -> Any:
        request = REQUESTS["Commit"](project_id=self.place.project, mode=MODES[step.mode])
        request.mutations.extend(self._mutation(write) for write in step.writes)
        return request

    def _mutation(self, write: Write) -> Any:
        mutation = Mutation(conflict_resolution_strategy=write.strategy)
        if write.operation == "delete":
            mutation.delete.CopyFrom(self.place.key(*write.path))
        else:
            entity = self.place.entity(write.path, dict(write.properties))
            getattr(mutation, write.operation).CopyFrom(entity)
        if write.base_version != NONE:
            mutation.base_version = self._version(write)
        if write.update_time != NONE:
            micros = self._time(write)
            mutation.update_time.seconds, rest = divmod(micros, 1_000_000)
            mutation.update_time.nanos = rest * 1000
        if write.mask is not None:
            mutation.property_mask.paths.extend(write.mask)
            mutation.property_mask.SetInParent()
        mutation.property_transforms.extend(write.transforms)
        return mutation

    def _version(self, write: Write) -> int:
        seen = self.versions.get(write.path, [])
        match write.base_version:
            case "zero":
                return 0
            case "current":
                return seen[-1] if seen else 1
            case "old":
                return seen[0] if len(seen) > 1 else 1
            case _:
                return max((v for vs in self.versions.values() for v in vs), default=1) + 10**6

    def _time(self, write: Write) -> int:
        seen = self.times.get(write.path, [])
        match write.update_time:
            case "current":
                return seen[-1] if seen else 1
            case "old":
                return seen[0] if len(seen) > 1 else 1
            case _:
                return (seen[-1] if seen else 1) + 10**6

    def _answer(self, step: Step, reply: Reply) -> list[Any]:
        if reply.code != "OK":
            return [Refusal.of(reply)]
        assert reply.body.mutation_results or not step.writes
        said: list[Any] = ["OK"]
        gone = {w.path for w in step.writes if w.operation == "delete"}
        for write, result in zip(step.writes, reply.body.mutation_results, strict=True):
            # The version of a deleted entity is up to the server: FS reports one later than the
            # entity's, one earlier than the commit's, or none.
            version = "" if write.path in gone else self._rank(result.version)
            transformed = ", ".join(say_value(v) for v in result.transform_results)
            flag = " conflict" if result.conflict_detected else ""
            said.append((f"{write.operation} {write.path}{flag} [{transformed}] ", version))
        return said

    def _rank(self, version: int) -> Any:
        return ("v", self.ranks.see(version))

    def _holdings(self) -> list[Any]:
        """All entities of the story as they are now, each with its version."""
        request = REQUESTS["Lookup"](
            project_id=self.place.project, keys=[self.place.key(*p) for p in self.paths]
        )
        reply = self.wire.call("Lookup", request)
        assert reply.code == "OK", reply
        found = []
        for result in reply.body.found:
            path = tuple(x for e in result.entity.key.path for x in (e.kind, e.name or e.id))
            seen = self.versions.setdefault(path, [])
            if not seen or seen[-1] != result.version:
                seen.append(result.version)
            if result.HasField("update_time"):
                stamp = result.update_time
                self.times.setdefault(path, []).append(
                    stamp.seconds * 1_000_000 + stamp.nanos // 1000
                )
            found.append((say_entity(result.entity) + " ", self._rank(result.version)))
        return sorted(found, key=lambda f: str(f[0]))

    def answers(self, *, moments: bool = False) -> list[Answer]:
        """The answers to each step, with versions as ranks. With `moments`, all versions of one
        commit count as one."""
        table = self.ranks.table(self.moments if moments else None)

        def words(item: Any) -> Any:
            if isinstance(item, tuple):
                return "".join(
                    f"v{table[part[1]]}" if isinstance(part, tuple) else part for part in item
                )
            return item

        return [tuple(words(item) for item in step) for step in self.said]


def story(
    judge: Judge, place: Place, steps: Iterable[Step], paths: tuple[tuple[str | int, ...], ...]
) -> list[Exchange]:
    """Send a story to both servers; returns their answers to each step."""
    steps = list(steps)
    tellers = [Teller(wire, place, paths) for wire in judge.both()]
    for step in steps:
        for teller in tellers:
            teller.tell(step)
    ours, theirs = (teller.answers() for teller in tellers)
    moments = tellers[1].answers(moments=True)
    return [
        Exchange(
            judge.ours, judge.theirs, place, "Commit",
            f"step {number + 1}: " + ", then ".join(map(str, steps[: number + 1])),
            ours[number], theirs[number], moments[number],
        )
        for number in range(len(steps))
    ]  # fmt: skip


def same_story(
    judge: Judge, place: Place, steps: Iterable[Step], paths: tuple[tuple[str | int, ...], ...]
) -> None:
    """Send a story to both servers and compare. After a difference in the table (except in
    versions) the two may store different things, and the rest is not compared."""
    for exchange in story(judge, place, steps, paths):
        if not judge.check(exchange) and exchange.our_answer != exchange.their_moments:
            return
