"""The kinds of bulkup's own entities. Kindless queries of a run skip them."""

MARKER_KIND = "BulkupMarker"
"""One tiny entity per commit, written in that commit and removed while the run continues; next to
it, a note with the batch's failures and log lines, if it has any."""

RUN_KIND = "BulkupRun"
"""One small entity per run: the run record."""

CLAIM_KIND = "BulkupClaim"
"""A tiny entity that keeps a second run of the same work from starting while one is unfinished. It
is written with the run record and removed by the commit that ends the run."""

GROUP_KIND = "BulkupGroup"
"""Lists the namespaces and the runs while an updater runs in several namespaces. It is in the
default namespace and is removed when the last run has ended."""

SEAL_KIND = "BulkupSeal"
"""A tiny entity that stays (see `state/seals.py`): one for each piece of work that was run with
`--no-record`, and one for each that was run in several namespaces."""

APPROVAL_KIND = "BulkupApproval"
"""One small entity for each piece of work with an approved plan (`bulkup approve`): which plan, who
approved it, and whether a run has carried it out. It stays (see `state/approvals.py`)."""

RANGE_KIND = "BulkupRange"
"""One small entity for each range of a run that is cut into ranges: a run record of its own (see
`state/ranges.py`). It is removed with the last markers of the run."""

OWN_KINDS = frozenset(
    {MARKER_KIND, RUN_KIND, CLAIM_KIND, GROUP_KIND, SEAL_KIND, APPROVAL_KIND, RANGE_KIND}
)
