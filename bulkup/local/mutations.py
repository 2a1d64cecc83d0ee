"""Checks of a commit's mutations, before anything is written."""

from __future__ import annotations

from typing import Any

from bulkup.core.limits import MAX_INDEXED_BYTES, is_reserved
from bulkup.local import messages as m
from bulkup.local.changes import EntryChanges, entry_changes, new_properties
from bulkup.local.encoding import Partition
from bulkup.local.indexing import Entries, index_entries, is_surely_valid
from bulkup.local.limits import (
    MAX_TRANSFORMS,
    check_entity_size,
    checked_place,
    key_text,
    partition_of,
)
from bulkup.local.masks import Mask
from bulkup.local.status import RpcError, invalid

_FORBIDDEN_AFTER = {"insert": ("insert", "update", "upsert"), "update": ("delete",)}
"""For an operation, those that must not precede it on the same entity in a commit (API
reference)."""


class Operation:
    """One mutation."""

    mask: Mask | None = None
    transforms: Any = ()
    entries: Entries | None = None
    """The entity's index entries, unless `entry_changes` says how they change."""
    entry_changes: EntryChanges | None = None
    """How the entries change, provided that the stored entity has not changed since it was read."""
    body: bytes | None = None
    """The body to store, once it is known."""

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
        """The encoded path; empty for an incomplete key."""
        self.base_version = base_version
        """The required version or `update_time`: a version is the time of its commit, in
        microseconds. -1 for a time that is not in whole microseconds, which no entity has."""
        self.fail = fail
        """Whether a conflict fails the commit."""
        self._message = message
        """The entity, or the key to delete."""

    @property
    def key(self) -> Any:
        return self._message if self.name == "delete" else self._message.key

    @property
    def entity(self) -> Any:
        """None for a delete."""
        return None if self.name == "delete" else self._message


def check_mutations(
    mutations: Any, project: str, database: str, *, transactional: bool
) -> list[Operation]:
    """The operations of a commit. Raises INVALID_ARGUMENT before anything is written.

    `check_entities` examines their entities later.
    """
    operations = []
    last: dict[tuple[str, bytes], Operation] = {}
    for mutation in mutations:
        operation = _check(mutation, project, database)
        operations.append(operation)
        if operation.path:
            place = (operation.partition.namespace, operation.path)
            earlier = last.get(place)
            if earlier is not None:
                _check_sequence(earlier, operation, transactional)
            last[place] = operation
    return operations


def _check_sequence(earlier: Operation, later: Operation, transactional: bool) -> None:
    """Raise INVALID_ARGUMENT for two mutations of one entity that exclude each other."""
    if not transactional:
        raise invalid(
            "A non-transactional commit may not contain multiple mutations affecting the "
            "same entity."
        )
    if earlier.fail != later.fail:
        raise invalid(
            "Mutations for the same entity must have the same conflict resolution "
            f"strategy: {key_text(later.key)}"
        )
    if earlier.base_version != later.base_version:
        raise invalid(
            f"Mutations for the same entity must have the same base version: {key_text(later.key)}"
        )
    if earlier.name in _FORBIDDEN_AFTER.get(later.name, ()):
        raise invalid(
            f"Cannot {earlier.name} then {later.name} an entity in the same request: "
            f"{key_text(later.key)}"
        )


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
    base_version = _base_version(mutation, name, key)
    fail = mutation.conflict_resolution_strategy == m.Mutation.FAIL
    message = key if entity is None else entity
    operation = Operation(name, partition, kind, path, base_version, fail, message)
    if entity is not None and mutation.HasField("property_mask"):
        operation.mask = Mask(mutation.property_mask.paths)
    transforms = mutation.property_transforms
    if transforms:
        if len(transforms) > MAX_TRANSFORMS:
            raise invalid(f"A mutation may have at most {MAX_TRANSFORMS} property transforms.")
        if entity is None:
            raise invalid("Delete mutation cannot have PropertyTransforms.")
    operation.transforms = transforms
    return operation


def _base_version(mutation: Any, name: str, key: Any) -> int | None:
    """The version that the mutation requires; None when it requires none."""
    detection = mutation.WhichOneof("conflict_detection_strategy")
    if detection is None:
        if mutation.conflict_resolution_strategy:
            raise invalid(
                "cannot set a conflict resolution strategy if no detection strategy was set"
            )
        return None
    if detection == "update_time":
        stamp = mutation.update_time
        version = -1 if stamp.nanos % 1000 else m.micros_of(stamp)
    else:
        version = mutation.base_version
        if version < 0:
            raise invalid(f"Invalid base_version: {version}, it should be >= 0")
    if name == "insert" and version:
        raise invalid(
            f"Cannot insert an entity with a base version greater than zero: {key_text(key)}"
        )
    if name == "update" and not version:
        raise invalid(f"Cannot update an entity with a base version of zero: {key_text(key)}")
    return version


def check_entities(
    operations: list[Operation], bodies: list[bytes | None], *, deferring: bool = False
) -> None:
    """Check the entities of operations. `bodies`: their stored bodies, where known.

    `deferring`: the commit needs no entries. Raises INVALID_ARGUMENT before anything is written.
    """
    for operation, stored in zip(operations, bodies, strict=True):
        entity = operation.entity
        if entity is None:
            continue
        if operation.mask is not None or operation.transforms or not operation.path:
            # What will be stored is not known yet.
            operation.entries = index_entries(entity)
            continue
        if deferring:
            operation.body = _checked_body(entity, stored)
        else:
            operation.body = _indexed_body(operation, entity, stored)
        check_entity_size(len(operation.body))


# Bodies are serialized deterministically, so that equal entities have equal bytes.


def _checked_body(entity: Any, stored: bytes | None) -> bytes:
    """The body of a valid entity. Only properties that are not stored already are examined."""
    body = bytes(entity.SerializeToString(deterministic=True))
    new = entity if stored is None else new_properties(stored, body)
    if new is None or len(body) > MAX_INDEXED_BYTES or not is_surely_valid(new):
        index_entries(entity)
        body = bytes(entity.SerializeToString(deterministic=True))
    return body


def _indexed_body(operation: Operation, entity: Any, stored: bytes | None) -> bytes:
    """The body of a valid entity. Stores its entries, or how they change, in the operation."""
    body = b""
    if stored is not None:
        body = entity.SerializeToString(deterministic=True)
        try:
            operation.entry_changes = entry_changes(stored, body)
        except RpcError:
            # If there are several errors, report the first one in the entity, as a deferred commit
            # does.
            index_entries(entity)
            raise
    if operation.entry_changes is None:
        operation.entries = index_entries(entity)
        body = entity.SerializeToString(deterministic=True)
    return body
