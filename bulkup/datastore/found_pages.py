"""Pages of entities that are looked up by key, parsed no deeper than the pages of a query."""

from __future__ import annotations

from collections.abc import Sequence

from bulkup.datastore.call import Call
from bulkup.datastore.keys import key_bytes, key_of
from bulkup.datastore.messages import LookupRequest, Pb
from bulkup.datastore.pages import FoundPage, absent_result
from bulkup.datastore.rpc import Rpc


def request_found(rpc: Rpc, keys: Sequence[bytes]) -> Call[Pb]:
    """Start a Lookup of serialized keys; `results_in_order` reads its answer."""
    request = LookupRequest(project_id=rpc.project, database_id=rpc.database)
    for key in keys:
        request.keys.add().ParseFromString(key)
    parse = rpc.meter.lookup(FoundPage.FromString)
    return Call(rpc, "Lookup", request.SerializeToString(), parse)


def results_in_order(answer: Pb, keys: Sequence[bytes]) -> list[Pb]:
    """The PageResults of `keys` in the same order, each with its key as the cursor, up to the first
    key that the server has deferred. A key without an entity has an `absent_result`."""
    found = {key_bytes(key_of(result.entity.key)): result for result in answer.found}
    missing = {key_bytes(key_of(result.entity.key)) for result in answer.missing}
    results = []
    for key in keys:
        result = found.get(key)
        if result is not None:
            result.entity.key = result.cursor = key
        elif key in missing:
            result = absent_result(key, key)
        else:
            break
        results.append(result)
    return results
