"""Query Explain: which indexes the service would use, and what a query cost.

Without `analyze`, `explain_options` returns the plan and no results; with it, the answer has both.
This server has no indexes like the service's. The indexes it reports follow the service's
documented rules: one index on each property that is only compared for equality, merged; one
composite index as soon as the query orders by, or ranges over, anything else; `__name__` alone for
a query on just a kind. The statistics cover one answer: a client that asks for further pages gets
separate statistics for each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from bulkup.local import messages as m
from bulkup.local.filters import KEY, Alternative
from bulkup.local.query import FULL, Request

_NAME = "__name__"
_BY_KIND, _WITH_ANCESTORS = "Collection group", "Includes ancestors"
COUNTED_PER_READ = 1000
"""Index entries of an aggregation that are billed as one read (documented)."""


class Explanation:
    """The explanation of one call, which is timed from here on."""

    def __init__(self, options: Any, request: Request) -> None:
        self.analyze = bool(options.analyze)
        self._request = request
        self._began = time.perf_counter_ns()

    def of_query(self, batch: bytes) -> bytes:
        """The explanation field of a RunQueryResponse."""
        answer = m.QueryResultBatch.FromString(batch)
        results, skipped = len(answer.entity_results), answer.skipped_results
        is_full = self._request.selection.result_type == FULL
        documents = results if is_full else 0
        return self._field(results, documents, results + skipped, max(1, documents))

    def of_aggregation(self, counted: int) -> bytes:
        """The explanation field of a RunAggregationQueryResponse. `counted`: the number of entities
        counted."""
        return self._field(1, 0, counted, max(1, -(-counted // COUNTED_PER_READ)))

    def of_plan(self) -> bytes:
        """The explanation field of either response, for a query that is not executed."""
        return m.field(9, self._metrics().SerializeToString())

    def _field(self, results: int, documents: int, entries: int, reads: int) -> bytes:
        metrics = self._metrics()
        stats = metrics.execution_stats
        stats.results_returned = results
        stats.read_operations = reads
        stats.execution_duration.FromNanoseconds(time.perf_counter_ns() - self._began)
        stats.debug_stats.update(
            {
                "index_entries_scanned": str(entries),
                "documents_scanned": str(documents),
                "billing_details": {
                    "documents_billable": str(documents),
                    "index_entries_billable": "0" if documents else str(entries),
                    "min_query_cost": "0" if documents or entries else "1",
                },
            }
        )
        return m.field(9, metrics.SerializeToString())

    def _metrics(self) -> Any:
        metrics = m.ExplainMetrics()
        metrics.plan_summary.SetInParent()
        for index in indexes_used(self._request):
            metrics.plan_summary.indexes_used.add().update(index)
        return metrics


def indexes_used(request: Request) -> list[dict[str, str]]:
    """The indexes that the service would use, each once. Aggregated properties appear as ranges,
    since entities without them do not count."""
    found: dict[tuple[str, str], None] = {}
    for one in request.alternatives:
        for columns in _indexes(request, one):
            scope = _WITH_ANCESTORS if one.ancestors and len(columns) > 1 else _BY_KIND
            shown = ", ".join(f"{n} {'DESC' if descending else 'ASC'}" for n, descending in columns)
            found[scope, f"({shown})"] = None
    return [{"query_scope": scope, "properties": properties} for scope, properties in found]


_Columns = list[tuple[str, bool]]


def _indexes(request: Request, one: Alternative) -> Iterator[_Columns]:
    equal = sorted({name for name, _ in one.equal})
    sorts = [(name, down) for name, down in request.orders if name not in (KEY, *equal)]
    named = {KEY, *equal, *(name for name, _ in sorts)}
    more = [(name, False) for name in sorted(one.ranges) if name not in named]
    last = (_NAME, request.directions[-1])
    if sorts or more:
        yield [*((name, False) for name in equal), *sorts, *more, last]
    elif equal:
        yield from ([(name, False), last] for name in equal)
    else:
        yield [last]
