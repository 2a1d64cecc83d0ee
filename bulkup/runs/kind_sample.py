"""Finds out which properties a kind has, from a few of its entities, for `bulkup new`.

Only reads.
"""

from __future__ import annotations

from contextlib import closing

from bulkup.authoring.scaffold_source import Property, Sample
from bulkup.core.clock import Clock
from bulkup.core.errors import TargetError
from bulkup.core.similar import similar_names
from bulkup.datastore.call_error import CallError
from bulkup.datastore.connect import open_rpc
from bulkup.datastore.metadata import kind_names
from bulkup.datastore.queries import kind_query
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.value_types import type_text, union
from bulkup.runs.target import TargetOptions, open_target

ENTITIES = 20
RETRY_FOR_S = 60.0


def sample_of_kind(kind: str, options: TargetOptions) -> Sample:
    """The properties of the first entities of a kind. Raises BulkupError; TargetError when the kind
    has none."""
    with (
        open_target(options, only_reads=True) as target,
        closing(open_rpc(target, RetryPolicy(RETRY_FOR_S), Clock())) as rpc,
        explained(rpc),
    ):
        rpc.connect()
        namespace = target.info.namespace
        answer = rpc.run_query(kind_query(kind, limit=ENTITIES), namespace).result()
        entities = [result.entity for result in answer.batch.entity_results]
        if not entities:
            raise TargetError(
                f"kind {kind!r} has no entities in {target.info}{_meant(rpc, namespace, kind)}, so "
                "nothing was written; check --kind and the target, or leave out --from-datastore"
            )
    types: dict[str, list[str]] = {}
    for entity in entities:
        for name, value in entity.properties.items():
            types.setdefault(name, []).append(type_text(value))
    return Sample(
        len(entities),
        tuple(Property(name, union(found), len(found)) for name, found in sorted(types.items())),
    )


def _meant(rpc: Rpc, namespace: str, kind: str) -> str:
    """The hint that a kind with a similar name exists; empty if none does or the server lists no
    kinds."""
    try:
        ((_, kinds),) = kind_names(rpc, [namespace])
        similar = similar_names(kind, kinds)
    except CallError as error:
        if not error.cannot_run_query:
            raise
        return ""
    return f" (there is {similar[0]!r})" if similar else ""
