"""The index of a loaded file, made at the end in one go.

Written batch by batch, entries would dirty pages all over a growing index: with a million entities,
that would take most of the time. An entity's row repeats its entries in `packed`, so they can be
made from there, sorted, and appended in order. SQLite sorts in temporary files beside the file, so
memory stays flat.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_INSERT = """
INSERT INTO entries(slot, value, path, since, eid)
SELECT
  CAST(CASE one.path WHEN '$' THEN one.key ELSE trim(one.path, '$."') END AS INTEGER) AS slot,
  unhexed(one.atom) AS value, entities.path, version, eid
FROM entities, json_tree(packed) AS one WHERE one.type = 'text'
ORDER BY slot, value, entities.path
"""
"""A value is a member of `packed`, or an element of an array in it, whose `path` is then
`$."13"`."""
_STEPS_BETWEEN_SIGNALS = 200_000
"""Instructions of SQLite's virtual machine: some milliseconds."""


def insert_entries(db: sqlite3.Connection, folder: Path) -> None:
    """Insert the entries of all entities, in a transaction. There must be none yet.

    `folder`: for temporary files. Raises KeyboardInterrupt on Ctrl-C.
    """
    db.create_function("unhexed", 1, bytes.fromhex, deterministic=True)
    with _sorting_in(db, folder), _interruptible(db):
        db.execute(_INSERT)


@contextmanager
def _sorting_in(db: sqlite3.Connection, folder: Path) -> Iterator[None]:
    quoted = str(folder).replace("'", "''")
    # SQLite would otherwise use /var/tmp, which may be smaller. This setting affects the whole
    # process.
    db.execute(f"PRAGMA temp_store_directory = '{quoted}'")
    try:
        yield
    finally:
        db.execute("PRAGMA temp_store_directory = ''")


@contextmanager
def _interruptible(db: sqlite3.Connection) -> Iterator[None]:
    """Let Ctrl-C interrupt a long statement. Python runs signal handlers only between its own
    instructions, such as those of a progress handler. What they raise there is dropped, and SQLite
    stops with SQLITE_INTERRUPT."""
    db.set_progress_handler(_go_on, _STEPS_BETWEEN_SIGNALS)
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        raise
    finally:
        db.set_progress_handler(None, 0)


def _go_on() -> int:
    return 0
