"""Commit: mutations, in a transaction or not."""

from __future__ import annotations

from typing import Any

from bulkup.local import messages as m
from bulkup.local.mutations import Operation, check_entities, check_mutations
from bulkup.local.prefetch import Prefetched
from bulkup.local.status import RpcError, invalid
from bulkup.local.storage import Storage
from bulkup.local.transactions import Transaction, Transactions, check_conflicts
from bulkup.local.writes import Writer


def run_commit(request: Any, storage: Storage, transactions: Transactions) -> bytes:
    """Apply a commit; returns the serialized CommitResponse. What it acknowledges is on disk."""
    transactional = request.mode != m.CommitRequest.NON_TRANSACTIONAL
    transaction = _transaction(request, transactions, transactional)
    operations = check_mutations(
        request.mutations,
        request.project_id,
        request.database_id,
        transactional=transactional,
    )
    if not operations and (transaction is None or transaction.read_only):
        return m.field(8, m.timestamp(storage.snapshot_version())) if transactional else b""
    writer = _write(operations, storage, transaction, transactional)
    out = list(writer.results())
    out.append(m.number_field(4, writer.index_updates))
    if transactional:
        out.append(m.field(8, m.timestamp(writer.version)))
    return b"".join(out)


def _transaction(
    request: Any, transactions: Transactions, transactional: bool
) -> Transaction | None:
    """The transaction that this commit ends; None if it is single-use or there is none."""
    selector = request.WhichOneof("transaction_selector")
    if transactional and selector is None:
        raise invalid("transactional commit requires a transaction")
    if not transactional and selector is not None:
        raise invalid("non-transaction commit cannot specify a transaction")
    single_use = request.single_use_transaction
    if selector == "single_use_transaction" and single_use.WhichOneof("mode") == "read_only":
        raise invalid("single_use_transaction in a commit request must be READ_WRITE.")
    if selector != "transaction":
        return None
    transaction = transactions.end(request.transaction)
    if transaction.read_only and request.mutations:
        raise invalid("Cannot modify entities in a read-only transaction.")
    return transaction


def _write(
    operations: list[Operation],
    storage: Storage,
    transaction: Transaction | None,
    transactional: bool,
) -> Writer:
    """Write the operations. In a non-transactional commit, those before a failing one stay
    written."""
    deferring = transaction is None and storage.defers()
    prefetched = Prefetched(storage, operations, deferring=deferring)
    check_entities(operations, prefetched.bodies, deferring=deferring)
    failure: RpcError | None = None
    with storage.writing(with_rows=not deferring) as (db, version):
        if transaction is not None:
            check_conflicts(transaction, storage, db)
        writer = Writer(storage, db, version, prefetched)
        for operation in operations:
            try:
                writer.apply(operation)
            except RpcError as error:
                if transactional:
                    raise
                failure = error
                break
        writer.finish()
        # Note this before releasing the writer's lock: the next commit checks for conflicts against
        # it.
        storage.note_written(writer.kinds, version, writer.rows)
    if failure is not None:
        raise failure
    return writer
