"""The target of a command: what the user asked for, resolved and ready to connect to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bulkup.core.errors import UsageError
from bulkup.datastore.target import Target, resolve


@dataclass(frozen=True)
class TargetOptions:
    """The target as the user asked for it. None: the environment decides."""

    project: str | None = None
    database: str | None = None
    namespace: str | None = None
    local: str | None = None
    """The file of an embedded Datastore."""


@contextmanager
def open_target(options: TargetOptions) -> Iterator[Target]:
    """Resolve a target. If it is an embedded Datastore, serve it until the block ends.

    Raises UsageError, TargetError.
    """
    if options.local is None:
        yield resolve(options.project, options.database, options.namespace)
        return
    if not os.path.exists(options.local):
        raise UsageError(
            f"there is no file {options.local!r}; `bulkup local load` creates one from JSON lines, "
            "`bulkup demo` one to play with"
        )
    from bulkup.local.process import start_local

    with start_local(options.local) as server:
        yield resolve(
            options.project,
            options.database,
            options.namespace,
            local=options.local,
            address=server.host,
        )
