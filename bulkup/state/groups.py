"""The group record: one updater that runs in many namespaces.

It lists the namespaces that existed at the start and determines the id of each run, so that the
work can be resumed from anywhere. The progress of each run is in its own run record. The group
record is only a claim: it is written before the first run and removed when the last one has ended.
Its seal stays, so that a late copy of the insert does not bring it back.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bulkup.core.errors import HeldError, StateError, UsageError
from bulkup.core.model import TargetInfo
from bulkup.core.records import is_run_id
from bulkup.core.selection import EVERYTHING, Selection
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_text
from bulkup.datastore.messages import EntityPb, Pb
from bulkup.datastore.queries import kind_query
from bulkup.datastore.refusals import commit_answer
from bulkup.datastore.rpc import Rpc
from bulkup.state.kinds import GROUP_KIND
from bulkup.state.raw_entities import Stored, own_key, read_properties, write_properties
from bulkup.state.seals import guarded_delete, guarded_write, seal_key, sealed

MAX_LIST_BYTES = 900_000
"""An entity may have 1,048,572 bytes. Compressed, a numbered tenant's name takes a few bytes."""

MAX_NAMES_BYTES = 100 * 1024 * 1024
"""A million namespaces with long names."""

_PLAIN = re.compile(r"[0-9A-Za-z._-]{1,100}")
"""A namespace's name, as Datastore allows it."""


@dataclass(frozen=True)
class Group:
    """A group record. `version` 0: not in Datastore."""

    group_id: str
    updater: str
    params: Mapping[str, str]
    pattern: str
    namespaces: tuple[str, ...]
    """The namespaces that existed at the start."""
    created: str
    """ISO 8601, UTC."""
    who: str
    """user@host of the process that started it."""
    fresh: bool = False
    """It starts new runs (`--new`), even where one is unfinished."""
    adopted: Mapping[str, str] = field(default_factory=dict)
    """By namespace: the id of a run that was already unfinished when the group got there."""
    gate: bool = False
    """Each run begins with a dry pass (`--gate clean`)."""
    version: int = 0

    def run_id(self, namespace: str) -> str:
        """The id of a namespace's run, the same for every runner of the group."""
        if namespace in self.adopted:
            return self.adopted[namespace]
        if namespace and not _PLAIN.fullmatch(namespace):  # an emulator may be less strict
            namespace = f"~{hashlib.sha256(namespace.encode()).hexdigest()[:16]}"
        return f"{self.group_id}@{namespace}"


def identity_of(
    spec: str, params: Mapping[str, str], pattern: str, selection: Selection = EVERYTHING
) -> str:
    """An id that is the same for the same work on any machine: only a file's name counts."""
    work: tuple[Any, ...] = spec.rpartition("/")[2], sorted(params.items()), pattern
    if selection:  # groups of an earlier version have none
        work = *work, sorted(selection.stored().items())
    return hashlib.sha256(repr(work).encode()).hexdigest()


class Groups:
    """Reads and writes the group record of one piece of work, in the default namespace."""

    def __init__(self, rpc: Rpc, target: TargetInfo, identity: str) -> None:
        self._rpc = rpc
        self._key = own_key(replace(target, namespace=""), GROUP_KIND, identity)
        self._seal_key = seal_key(replace(target, namespace=""), identity)

    def read(self) -> Group | None:
        """The unfinished group. Raises CallError; StateError if another version wrote it."""
        for result in self._rpc.lookup([self._key]).values():
            return _parsed(result)
        return None

    def others(self, updater: str) -> list[Group]:
        """Unfinished groups of updaters of this name, with other parameters or another pattern.

        Raises CallError.
        """
        name = self._key.path[-1].name
        found = _all(self._rpc)
        return [group for key, group in found if key != name and group.updater == updater]

    def begin(self, group: Group) -> Group:
        """Write a new group. If somebody else was faster, returns their group.

        A group with a version replaces the one that was read. Raises HeldError if that one has
        changed, UsageError if there are too many namespaces, CallError.
        """
        try:
            return self._write(group)
        except CallError as error:
            if error.unexplained or not error.claims_conflict:
                raise
        there = self.read()
        if there is None:
            raise HeldError("somebody has just done this work; run the command again if necessary")
        return there

    def adopt(self, group: Group, namespace: str, run_id: str) -> Group:
        """Note that a namespace's run has another id. Raises HeldError, CallError."""
        return self._write(replace(group, adopted={**group.adopted, namespace: run_id}))

    def end(self, group: Group) -> None:
        """Remove the record, since every run has ended. A newer group's record stays. Raises
        CallError."""
        there = self.read()
        if there is None or there.group_id != group.group_id:
            return
        try:
            self._send(guarded_delete(self._key, there.version))
        except CallError as error:
            if error.unexplained or not error.is_conflict:
                raise

    def _write(self, group: Group) -> Group:
        mutations = [guarded_write(self._entity(group), group.version)]
        if not group.version:
            mutations.append(sealed(self._rpc, self._seal_key, group.group_id))
        try:
            answer = self._send(*mutations)
        except CallError as error:
            there = self.read()
            if there is not None and replace(there, version=group.version) == group:
                return there  # the write was applied, but its answer was lost
            if error.is_conflict and group.version and not error.unexplained:
                raise HeldError(
                    "somebody else works on the same namespaces and has just changed the group's "
                    "record; run the command again"
                ) from error
            raise
        return replace(group, version=answer.mutation_results[0].version)

    def _send(self, *mutations: Any) -> Any:
        return commit_answer(
            self._rpc, self._rpc.commit([m.SerializeToString() for m in mutations])
        )

    def _entity(self, group: Group) -> Pb:
        names = zlib.compress(json.dumps(group.namespaces).encode(), 9)
        if len(names) > MAX_LIST_BYTES:
            raise UsageError(
                f"{len(group.namespaces)} namespaces are too many for one command; run it for some "
                "of them at a time: --namespaces 'a*'"
            )
        entity = EntityPb(key=self._key)
        values: dict[str, Stored] = {
            "group": group.group_id,
            "updater": group.updater,
            "parameters": json.dumps(group.params),
            "pattern": group.pattern,
            "namespaces": len(group.namespaces),
            "started": datetime.fromisoformat(group.created),
            "who": group.who,
            "fresh": group.fresh,
            "created": group.created,
            "names": names,
            "adopted": json.dumps(group.adopted),
            **({"gate": True} if group.gate else {}),
        }
        write_properties(entity, values)
        return entity


def find_group(rpc: Rpc, target: TargetInfo, group_id: str) -> tuple[Groups, Group] | None:
    """The unfinished group with this id. Raises CallError, StateError."""
    for identity, group in _all(rpc):
        if group.group_id == group_id:
            return Groups(rpc, target, identity), group
    return None


def _all(rpc: Rpc) -> Iterator[tuple[str, Group]]:
    """All unfinished groups, with the names of their records."""
    for result in rpc.results(kind_query(GROUP_KIND), ""):
        yield result.entity.key.path[-1].name, _parsed(result)


def _parsed(result: Any) -> Group:
    try:
        return _parse(read_properties(result.entity), result.version)
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise StateError(
            f"the group record {key_text(result.entity.key)} was written by another version of "
            "bulkup: run that version, or delete the record if you no longer need the group",
            details=f"{type(error).__name__}: {error}",
        ) from error


def _parse(values: dict[str, Any], version: int) -> Group:
    # A small value may decompress to more than fits in memory.
    unpacked = zlib.decompressobj().decompress(values["names"], MAX_NAMES_BYTES)
    names: Sequence[str] = json.loads(unpacked)
    adopted = json.loads(values["adopted"])
    if not all(map(is_run_id, (values["group"], *adopted.values()))):
        raise ValueError("it names runs by what are not the ids of runs")
    if not all(isinstance(name, str) for name in names):
        raise TypeError("its namespaces are not strings")
    return Group(
        group_id=values["group"],
        updater=values["updater"],
        params=json.loads(values["parameters"]),
        pattern=values["pattern"],
        namespaces=tuple(names),
        created=values["created"],
        who=values["who"],
        fresh=values["fresh"],
        adopted=adopted,
        gate=values.get("gate") is True,
        version=version,
    )
