"""The group record: one updater under way in many namespaces.

It says which namespaces were there in the beginning, and gives each run its id, so that whoever
goes on, from wherever, asks for the same runs: how far each is, its own record says. The group
record itself is but a claim: it is made before the first run, and goes when the last has ended.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from google.cloud.datastore import Entity, Key

from bulkup.core.errors import HeldError, StateError, UsageError
from bulkup.core.model import TargetInfo
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_text, key_to_pb
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.messages import Mutation
from bulkup.datastore.queries import kind_query
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.value_codec import write_entity
from bulkup.state.kinds import GROUP_KIND

MAX_LIST_BYTES = 900_000
"""An entity may have 1,048,572 bytes; names that number tenants shrink to a few bytes each."""

_PLAIN = re.compile(r"[0-9A-Za-z._-]{1,100}")
"""What Datastore takes for the name of a namespace."""


@dataclass(frozen=True)
class Group:
    """`version` 0: not in Datastore (yet)."""

    group_id: str
    updater: str
    params: Mapping[str, str]
    pattern: str
    namespaces: tuple[str, ...]
    """As they were in the beginning."""
    created: str
    """ISO 8601, UTC."""
    who: str
    """user@host of who began it."""
    fresh: bool = False
    """It was to start over (`--new`), whatever was unfinished in its namespaces."""
    adopted: Mapping[str, str] = field(default_factory=dict)
    """Ids of runs that were under way when the group came to their namespace."""
    version: int = 0

    def run_id(self, namespace: str) -> str:
        """The id of a namespace's run: the same for every runner of the group."""
        if namespace in self.adopted:
            return self.adopted[namespace]
        if namespace and not _PLAIN.fullmatch(namespace):  # an emulator may be less strict
            namespace = f"~{hashlib.sha256(namespace.encode()).hexdigest()[:16]}"
        return f"{self.group_id}@{namespace}"


def identity_of(spec: str, params: Mapping[str, str], pattern: str) -> str:
    """The same for the same work, from wherever: of a file only the name counts."""
    work = spec.rpartition("/")[2], sorted(params.items()), pattern
    return hashlib.sha256(repr(work).encode()).hexdigest()


class Groups:
    """The group record of some work, in the default namespace."""

    def __init__(self, rpc: Rpc, target: TargetInfo, identity: str) -> None:
        self._rpc = rpc
        self._key = Key(
            GROUP_KIND, identity, project=target.project, database=target.database or None
        )

    def read(self) -> Group | None:
        """The unfinished group. Raises CallError; StateError for one of another version."""
        for result in self._rpc.lookup([key_to_pb(self._key)]).values():
            return self._parsed(result)
        return None

    def _parsed(self, result: Any) -> Group:
        try:
            return _parse(LazyEntity(result.entity), result.version)
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise StateError(
                f"the group record {key_text(result.entity.key)} was written by another "
                "version of bulkup: run that version, or delete the record if the group does "
                "not matter any more",
                details=f"{type(error).__name__}: {error}",
            ) from error

    def others(self, updater: str) -> list[Group]:
        """Unfinished groups of updaters of this name, with other parameters or another pattern.

        Raises CallError.
        """
        found = [
            self._parsed(result)
            for result in self._rpc.results(kind_query(GROUP_KIND), "")
            if result.entity.key.path[-1].name != self._key.name
        ]
        return [group for group in found if group.updater == updater]

    def begin(self, group: Group) -> Group:
        """Write a new group, or, where somebody was faster, give theirs.

        With a version it takes the place of the one that was read. Raises CallError; HeldError
        when that one has changed meanwhile; UsageError when its namespaces are too many.
        """
        try:
            return self._write(group)
        except CallError as error:
            if not error.already_exists:
                raise
        there = self.read()
        if there is None:
            raise HeldError("somebody has just done this work; look, and run it again if need be")
        return there

    def adopt(self, group: Group, namespace: str, run_id: str) -> Group:
        """Note that a namespace's run has another id. Raises HeldError, CallError."""
        return self._write(replace(group, adopted={**group.adopted, namespace: run_id}))

    def end(self, group: Group) -> None:
        """Every run has ended. One that has taken its place is left alone. Raises CallError."""
        mutation = Mutation()
        mutation.delete.CopyFrom(key_to_pb(self._key))
        there = self.read()
        if there is None or there.group_id != group.group_id:
            return
        mutation.base_version = there.version
        mutation.conflict_resolution_strategy = Mutation.FAIL
        try:
            self._send(mutation)
        except CallError as error:
            if not error.is_conflict:
                raise

    def _write(self, group: Group) -> Group:
        mutation = Mutation()
        entity = self._entity(group)
        if group.version:
            write_entity(mutation.update, entity)
            mutation.base_version = group.version
            mutation.conflict_resolution_strategy = Mutation.FAIL
        else:
            write_entity(mutation.insert, entity)
        try:
            answer = self._send(mutation)
        except CallError as error:
            there = self.read()
            if there is not None and replace(there, version=group.version) == group:
                return there  # its answer was lost
            if error.is_conflict:
                raise HeldError(
                    "somebody else works on the same namespaces and has just changed the group's "
                    "record; run the command again"
                ) from error
            raise
        return replace(group, version=answer.mutation_results[0].version)

    def _send(self, mutation: Any) -> Any:
        return self._rpc.commit([mutation.SerializeToString()]).result()

    def _entity(self, group: Group) -> Entity:
        names = zlib.compress(json.dumps(group.namespaces).encode(), 9)
        if len(names) > MAX_LIST_BYTES:
            raise UsageError(
                f"{len(group.namespaces)} namespaces are more than one command can keep in mind; "
                "take a part of them at a time: --namespaces 'a*'"
            )
        facts: dict[str, Any] = {
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
        }
        entity = Entity(self._key, exclude_from_indexes=tuple(facts))
        entity.update(facts)
        return entity


def _parse(entity: Any, version: int) -> Group:
    names: Sequence[str] = json.loads(zlib.decompress(entity["names"]))
    return Group(
        group_id=entity["group"],
        updater=entity["updater"],
        params=json.loads(entity["parameters"]),
        pattern=entity["pattern"],
        namespaces=tuple(names),
        created=entity["created"],
        who=entity["who"],
        fresh=entity["fresh"],
        adopted=json.loads(entity["adopted"]),
        version=version,
    )
