"""Mutations, checked as far as that goes without looking at what is stored."""

from __future__ import annotations

from typing import Any

from bulkup.local import messages as m
from bulkup.local.changes import Changes, changes, new_properties
from bulkup.local.encoding import Partition
from bulkup.local.indexing import Entries, index_entries, is_plain
from bulkup.local.limits import (
    MAX_INDEXED_BYTES,
    MAX_TRANSFORMS,
    check_entity_size,
    checked_place,
    is_reserved,
    key_text,
    partition_of,
)
from bulkup.local.masks import Mask
from bulkup.local.status import RpcError, invalid

FAIL = m.Mutation.FAIL
_FORBIDDEN_AFTER = {"insert": ("insert", "update", "upsert"), "update": ("delete",)}
"""Sequences on one entity that a commit must not have, by the later one; from the reference."""


class Operation:
    """One mutation, checked as far as that goes without looking at what is stored."""

    mask: Mask | None = None
    transforms: Any = ()
    entries: Entries | None = None
    """Of `entity`, where `changes` does not say all."""
    changes: Changes | None = None
    """What this changes, if what is stored has not changed since."""

    def __init__(
        self,
        name: str,
        partition: Partition,
        kind: str,
        path: bytes,
        base_version: int | None,
        fail: bool,
        message: Any,
    ) -> None:
        self.name = name
        self.partition = partition
        self.kind = kind
        self.path = path
        """Empty for an incomplete key."""
        self.base_version = base_version
        """Also of an `update_time`: a version is the time of its commit, in microseconds. -1 for a
        time finer than that, which no entity has."""
        self.fail = fail
        # The entity, or the key of a delete.
        self.message = message
        self.body: bytes | None = None
        """What will be stored, where that is known already."""

    @property
    def key(self) -> Any:
        return self.message if self.name == "delete" else self.entity.key

    @property
    def entity(self) -> Any:
        """None of a delete."""
        return None if self.name == "delete" else self.message


def check_mutations(
    mutations: Any, project: str, database: str, *, transactional: bool
) -> list[Operation]:
    """The operations of a commit. Raises INVALID_ARGUMENT; then nothing is written.

    Their entities are not looked into yet: `check_entities` does.
    """
    operations = []
    last: dict[tuple[str, bytes], Operation] = {}
    for mutation in mutations:
        operation = _check(mutation, project, database)
        operations.append(operation)
        if not operation.path:
            continue
        place = (operation.partition.namespace, operation.path)
        before = last.get(place)
        if before is not None:
            if not transactional:
                raise invalid(
                    "A non-transactional commit may not contain multiple mutations affecting the "
                    "same entity."
                )
            if before.fail != operation.fail:
                raise invalid(
                    "Mutations for the same entity must have the same conflict resolution "
                    f"strategy: {key_text(operation.key)}"
                )
            if before.base_version != operation.base_version:
                raise invalid(
                    "Mutations for the same entity must have the same base version: "
                    f"{key_text(operation.key)}"
                )
            if before.name in _FORBIDDEN_AFTER.get(operation.name, ()):
                raise invalid(
                    f"Cannot {before.name} then {operation.name} an entity in the same request: "
                    f"{key_text(operation.key)}"
                )
        last[place] = operation
    return operations


def _check(mutation: Any, project: str, database: str) -> Operation:
    name = mutation.WhichOneof("operation")
    if name is None:
        raise invalid("Mutation is missing operation.")
    entity = None if name == "delete" else getattr(mutation, name)
    key = mutation.delete if entity is None else entity.key
    path, kind = checked_place(key, complete=name in ("update", "delete"))
    place = key.partition_id
    partition = partition_of(place, project, database)
    if partition.namespace and is_reserved(partition.namespace):
        raise invalid(f'The namespace id "{partition.namespace}" is reserved.')
    if not place.project_id:
        place.project_id = project
    detection = mutation.WhichOneof("conflict_detection_strategy")
    if detection is None and mutation.conflict_resolution_strategy:
        raise invalid("cannot set a conflict resolution strategy if no detection strategy was set")
    base_version = None
    if detection is not None:
        base_version = _version_asked_for(mutation, detection)
        if name == "insert" and base_version:
            raise invalid(
                f"Cannot insert an entity with a base version greater than zero: {key_text(key)}"
            )
        if name == "update" and not base_version:
            raise invalid(f"What is updated cannot have the base version zero: {key_text(key)}")
    mask = None
    if entity is not None and mutation.HasField("property_mask"):
        mask = Mask(mutation.property_mask.paths)
    transforms = mutation.property_transforms
    if transforms:
        if len(transforms) > MAX_TRANSFORMS:
            raise invalid(f"A mutation may have at most {MAX_TRANSFORMS} property transforms.")
        if entity is None:
            raise invalid("Delete mutation cannot have PropertyTransforms.")
    operation = Operation(
        name,
        partition,
        kind,
        path,
        base_version,
        mutation.conflict_resolution_strategy == FAIL,
        key if entity is None else entity,
    )
    operation.mask, operation.transforms = mask, transforms
    return operation


def check_entities(
    operations: list[Operation], bodies: list[bytes | None], *, deferring: bool = False
) -> None:
    """Look into the entities of operations; `bodies` are what is stored now, as far as known.

    `deferring`: nobody will ask for their entries. Raises INVALID_ARGUMENT; then nothing is
    written.
    """
    for operation, base in zip(operations, bodies, strict=True):
        entity = operation.entity
        if entity is None:
            continue
        if operation.mask is not None or operation.transforms or not operation.path:
            operation.entries = index_entries(entity)
            continue
        # Deterministic, so that equal entities are equal bytes.
        if deferring:
            body = entity.SerializeToString(deterministic=True)
            # What is stored was looked into when it came.
            new = entity if base is None else new_properties(base, body)
            if new is None or len(body) > MAX_INDEXED_BYTES or not is_plain(new):
                index_entries(entity)
                body = entity.SerializeToString(deterministic=True)
            check_entity_size(len(body))
            operation.body = body
            continue
        if base is not None:
            body = entity.SerializeToString(deterministic=True)
            try:
                operation.changes = changes(base, body)
            except RpcError:
                # Of several reasons the one that comes first in the entity, deferred or not.
                index_entries(entity)
                raise
        if operation.changes is None:
            operation.entries = index_entries(entity)
            body = entity.SerializeToString(deterministic=True)
        check_entity_size(len(body))
        operation.body = body


def _version_asked_for(mutation: Any, detection: str) -> int:
    if detection == "update_time":
        stamp = mutation.update_time
        return -1 if stamp.nanos % 1000 else m.micros_of(stamp)
    version: int = mutation.base_version
    if version < 0:
        raise invalid(f"Invalid base_version: {version}, it should be >= 0")
    return version
