"""What the stub really stores: bulkup's own records, which it reads back and guards."""

from __future__ import annotations

from typing import Any

import grpc
from google.cloud.datastore_v1.types import query as _query

from benchmarks.canned import VERSION, EntityResult

KINDS = ("BulkupRun", "BulkupClaim", "BulkupRange")
"""Markers are not: nobody looks for them in a run that is not disturbed."""

Operator: Any = _query.PropertyFilter.Operator


class Records:
    """Entities of `KINDS` with their versions."""

    def __init__(self) -> None:
        self._stored: dict[bytes, tuple[Any, int]] = {}
        self._version = VERSION

    def get(self, key: Any) -> tuple[Any, int] | None:
        return self._stored.get(identity(key))

    def query(self, kind: str, query: Any) -> list[Any]:
        """Results that fulfil a query's conditions, after its cursor; each one's is its key."""
        found = []
        for key, (entity, version) in sorted(self._stored.items()):
            if entity.key.path[-1].kind != kind or key <= query.start_cursor:
                continue
            if all(_fulfils(entity, condition) for condition in conditions(query)):
                found.append(EntityResult(entity=entity, version=version, cursor=key))
        return found

    def store(self, mutations: Any) -> list[int]:
        """Apply what concerns bulkup's own records, all of it or nothing. Raises Refused."""
        writes: list[tuple[bytes, Any, int]] = []
        versions = []
        for mutation in mutations:
            self._version += 1
            versions.append(self._version)
            how = mutation.WhichOneof("operation")
            value = getattr(mutation, how)
            key = value if how == "delete" else value.key
            if key.path[-1].kind not in KINDS:
                continue
            there = self._stored.get(identity(key))
            if how == "insert" and there:
                raise Refused(grpc.StatusCode.ALREADY_EXISTS, "entity already exists")
            if how == "update" and not there:
                raise Refused(grpc.StatusCode.NOT_FOUND, "no entity to update")
            if mutation.base_version and mutation.base_version != (there[1] if there else 0):
                raise Refused(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    "the stored version does not match the required base version",
                )
            writes.append((identity(key), None if how == "delete" else value, self._version))
        for name, entity, version in writes:
            if entity is None:
                self._stored.pop(name, None)
            else:
                self._stored[name] = entity, version
        return versions


class Refused(Exception):
    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def identity(key: Any) -> bytes:
    """Kind and name or id of the path; the stub is one project and one namespace."""
    return b"/".join(part.SerializeToString(deterministic=True) for part in key.path)


def conditions(query: Any) -> list[Any]:
    """The conditions of a filter that requires all of them."""
    found, parts = [], [query.filter]
    while parts:
        part = parts.pop()
        how = part.WhichOneof("filter_type")
        if how == "property_filter":
            found.append(part.property_filter)
        elif how:
            parts.extend(part.composite_filter.filters)
    return found


def _fulfils(entity: Any, condition: Any) -> bool:
    def comparable(value: Any) -> Any:
        kind = value.WhichOneof("value_type")
        if kind == "timestamp_value":
            return value.timestamp_value.seconds + value.timestamp_value.nanos / 1e9
        return getattr(value, kind) if kind else None

    wanted, op = condition.value, Operator(condition.op).name
    if condition.property.name == "__key__":
        mine, other = entity.key.path[-1].name, wanted.key_value.path[-1].name
    else:
        if condition.property.name not in entity.properties:
            return False
        value = entity.properties[condition.property.name]
        if value.WhichOneof("value_type") != wanted.WhichOneof("value_type"):
            return False
        mine, other = comparable(value), comparable(wanted)
    return {
        "EQUAL": lambda: mine == other,
        "GREATER_THAN": lambda: mine > other,
        "GREATER_THAN_OR_EQUAL": lambda: mine >= other,
        "LESS_THAN": lambda: mine < other,
        "LESS_THAN_OR_EQUAL": lambda: mine <= other,
    }[op]()
