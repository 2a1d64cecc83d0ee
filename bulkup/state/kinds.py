"""The kinds that bulkup itself writes into a Datastore; kindless queries of a run skip them."""

MARKER_KIND = "BulkupMarker"
"""One tiny entity per commit, written in that very commit; removed as the run goes on."""

RUN_KIND = "BulkupRun"
"""One small entity per run: the run record."""

OWN_KINDS = frozenset({MARKER_KIND, RUN_KIND})
