"""The embedded Datastore: `google.datastore.v1.Datastore` over one SQLite file, on this machine.

Google's Python clients talk to it unchanged through DATASTORE_EMULATOR_HOST. `process.start_local`
serves a file from a process of its own; `python -m bulkup.local FILE` is that process.

    process.py   server.py   __main__.py     starting, serving, ending
    service.py                               the calls: bytes in, bytes out
    filters.py   drivers.py  plan.py         a query: its alternatives, its SQL
    queries.py   cursors.py                  and its answers
    aggregation.py           metadata.py     queries of other kinds
    mutations.py writes.py                   a commit: checked, applied
    masks.py     transforms.py changes.py
    rows.py      pending.py                  rows of what changed, made at once or later
    indexing.py  packing.py  keys.py         what an entity's index entries are; ids
    transactions.py                          snapshots and conflicts
    storage.py   file.py                     versions, snapshots, history; schema, lock
    encoding.py  intervals.py    sql.py      keys and values as bytes that sort; pieces of SQL
    limits.py    values.py   status.py       what is refused, and how
    messages.py                              protobuf

Google's emulators deviate from the service, and from one another. Where they do, this follows what
is documented of the service; the module that decides says so, and why. The ones to know:

- A commit answers `index_updates` 0 where its index entries are made later (pending.py).
- Conditions (`base_version`, `update_time`) hold with every strategy and in every mode (writes.py).
- Transactions are optimistic, a documented concurrency mode; phantoms count (transactions.py).
- An entity is found once, by its first sort value; a projection finds each combination (plan.py).
- Answers come in pages; keys-only and projected results have no version (queries.py).
- Empty arrays are in no index; entities in arrays are, by their properties (indexing.py).
- Sums leave out what is not a number: arrays, timestamps (aggregation.py).
- A cursor is refused by a query that it does not belong to (cursors.py).
- `read_time` reaches back one hour (storage.py). No composite index is ever asked for.
- GQL and vector search are answered UNIMPLEMENTED (service.py, queries.py).
"""
