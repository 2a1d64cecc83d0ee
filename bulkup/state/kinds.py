"""The kinds that bulkup itself writes into a Datastore; kindless queries of a run skip them."""

MARKER_KIND = "BulkupMarker"
"""One tiny entity per commit, written in that very commit; removed as the run goes on."""

RUN_KIND = "BulkupRun"
"""One small entity per run: the run record."""

CLAIM_KIND = "BulkupClaim"
"""While a run is unfinished: a tiny entity that keeps a second run of the same work from
beginning. It is written with the run record and goes with the commit that ends the run."""

GROUP_KIND = "BulkupGroup"
"""While an updater is under way in several namespaces: what they are, and which runs are theirs.
In the default namespace; it goes when the last run has ended."""

OWN_KINDS = frozenset({MARKER_KIND, RUN_KIND, CLAIM_KIND, GROUP_KIND})
