"""Read what a query matches: what `bulkup count` and `bulkup find` call. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.cloud.datastore import Entity, Query

from bulkup.authoring.updater import Updater
from bulkup.core.events import Listener, Warned
from bulkup.core.records import Shard
from bulkup.core.selection import Selection
from bulkup.datastore.call_error import CallError
from bulkup.datastore.messages import EntityPb, Pb
from bulkup.datastore.rpc import count_of
from bulkup.engine.dry_run import SeenKeys
from bulkup.engine.options import Options
from bulkup.engine.scan import QueryPlan, Scan
from bulkup.engine.selecting import shown_query
from bulkup.runs.context import RunContext
from bulkup.runs.missing_kind import check_kind
from bulkup.runs.prepare import PreparedRun, prepare
from bulkup.runs.target import TargetOptions

ENTITIES_PER_PAGE = 300
KEYS_PER_PAGE = 1000


class Selected(Updater):
    """Stands in for an updater if there is none: the selection chooses among all entities."""

    def get_query(self) -> Query:
        return self.client.query()

    def handle_entity(self, entity: Entity) -> None:
        raise NotImplementedError("nothing is handled")


@contextmanager
def prepare_reading(
    updater: Any,
    params: Mapping[str, Any],
    selection: Selection,
    target: TargetOptions,
    listener: Listener,
) -> Iterator[PreparedRun]:
    """Prepare to read an updater's query, narrowed by a selection. `updater` None: select from all
    entities. Raises BulkupError."""
    context = RunContext(
        Options(dry_run=True),
        Path(".bulkup"),  # nothing there is read or written
        listener,
        allow_empty=True,
        owns_process=True,
        reads_beside=True,
    )
    with prepare(updater or Selected, params, target, context, selection=selection) as prepared:
        prepared.query = _whole(prepared.query)
        for warning in prepared.warnings:
            listener(warning)
        check_kind(prepared)
        if prepared.nothing_there:
            listener(Warned(prepared.nothing_there))
        yield prepared


def _whole(query: QueryPlan) -> QueryPlan:
    """The query for whole entities, even if the updater's query is for keys."""
    pb = type(query.pb)()
    pb.CopyFrom(query.pb)
    del pb.projection[:]
    return replace(query, pb=pb, keys_only=False)


def query_of(prepared: PreparedRun) -> str:
    """The query in GQL."""
    return shown_query(prepared.query.pb, prepared.target.info)


def count_matching(prepared: PreparedRun) -> int:
    """How many entities match. Their keys are read if the server cannot count, or would count
    wrongly.

    Raises CallError.
    """
    query, rpc = prepared.query, prepared.rpc
    if _is_empty(prepared):
        return 0
    # In a query of all kinds, the server would also count bulkup's own entities. With a range on a
    # property, one server counts an entity once for each element of an array.
    if not (query.is_kindless or query.ranged):
        try:
            return count_of(rpc.count(query.pb, query.namespace).result())
        except CallError as error:
            if not error.cannot_run_query:
                raise
    return sum(len(page) for page in find_pages(prepared, keys_only=True))


def find_pages(
    prepared: PreparedRun, *, keys_only: bool = False, limit: int | None = None
) -> Iterator[list[Pb]]:
    """The Entity messages that match, page by page, each entity once. With `keys_only`, they have
    no properties. Raises CallError."""
    query = prepared.query
    if _is_empty(prepared) or limit == 0:
        return
    if keys_only:
        query = _keys_of(query)
    # A query that orders or ranges on a property may return an entity once per array element.
    with SeenKeys() if query.ranged else nullcontext() as seen:
        scan = Scan(
            prepared.rpc, query, Shard(1), KEYS_PER_PAGE if keys_only else ENTITIES_PER_PAGE,
            entity_bytes=0 if keys_only else prepared.first_entity_bytes,
            # Some of a page may be left out: those seen before, and bulkup's own.
            wanted=None if seen is not None or query.is_kindless else limit,
        )  # fmt: skip
        left = limit
        with closing(scan):
            while not scan.is_over:
                page = [r for r in scan.take() if seen is None or seen.add(r.entity.key)][:left]
                yield [EntityPb.FromString(r.entity.SerializeToString()) for r in page]
                left = None if left is None else left - len(page)
                if left == 0:
                    return


def _is_empty(prepared: PreparedRun) -> bool:
    """Whether the query is known to match nothing. In a query of all kinds, the first entity may
    have been one of bulkup's own, so more may follow."""
    return not (prepared.first_entity_bytes or prepared.query.is_kindless)


def _keys_of(query: QueryPlan) -> QueryPlan:
    pb = type(query.pb)()
    pb.CopyFrom(query.pb)
    pb.projection.add().property.name = "__key__"
    return replace(query, pb=pb, keys_only=True)
