"""The embedded Datastore: `google.datastore.v1.Datastore` over one SQLite file, on this machine.

Google's Python clients use it unchanged through DATASTORE_EMULATOR_HOST. What it offers:

    process.start_local(FILE)      serve a file from another process
    server.DatastoreServer(FILE)   serve a file from this process
    python -m bulkup.local FILE    serve a file from a shell
    access.LocalFile(FILE, ...)    use a file without a server
    transfer.load, transfer.dump   entities as lines of JSON

These names are not imported here, so that importing one of them does not load the others.
This package imports only `bulkup.core`.

    process.py   server.py    __main__.py     starting and stopping
    endpoint.py  stalled.py                   the gRPC server, and clients that stall
    service.py   requests.py  read_options.py the calls, and what they share
    lookup.py    commit.py                    the calls that have most to do
    query.py     filters.py                   a checked query
    drivers.py   plan.py      query_rows.py   its SQL, its rows
    query_page.py             cursors.py      one page of results
    aggregation.py            metadata.py     queries of other kinds
    explain.py                                what a query would use, and what it cost
    mutations.py prefetch.py  writes.py       a commit: checked, read ahead, applied
    masks.py     transforms.py changes.py
    rows.py      pending.py                   rows of what changed, written at once or later
    indexing.py  packing.py   keys.py         index entries of an entity; ids
    transactions.py                           snapshots and conflicts
    storage.py   catalog.py   housekeeping.py versions, snapshots, names, history
    file.py                                   schema, lock, connections
    encoding.py  intervals.py sql.py          keys and values as bytes that sort; pieces of SQL
    limits.py    status.py                    what is refused, and how (with core/limits.py)
    messages.py                               protobuf
    access.py    transfer.py  entity_json.py v1_json.py   files without a server
    exports/                                  Google's managed export format

Google's emulators deviate from the service, and from each other. Where they do, this follows the
service's documentation, and the module that decides gives the reason. The most important points:

- A commit reports 0 `index_updates` when its index entries are written later (pending.py).
- Conditions (`base_version`, `update_time`) apply with every strategy, in every mode (writes.py).
- Transactions are optimistic, a documented concurrency mode; phantoms count (transactions.py).
- An entity is one result, at its first sort value; in a projection, one per combination of values
  (plan.py).
- Results come in pages; keys-only and projected results have no version (query_page.py).
- Empty arrays are in no index; entities in arrays are, by their properties (indexing.py).
- Sums skip what is not a number: arrays, timestamps (aggregation.py).
- A query refuses a cursor from another query (cursors.py).
- `read_time` reaches back one hour (storage.py). No query needs a composite index; an explanation
  names those that the service would use (explain.py).
- GQL and vector search are answered UNIMPLEMENTED (service.py, query.py).
"""
