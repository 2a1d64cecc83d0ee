"""The target of a command: what the user asked for, resolved and ready to connect to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bulkup.core.errors import MismatchError, UsageError
from bulkup.core.model import TargetInfo
from bulkup.core.records import RunInfo
from bulkup.core.similar import similar_names
from bulkup.datastore.target import EMULATOR_VARIABLE, Target, emulator_host, resolve


@dataclass(frozen=True)
class TargetOptions:
    """The target as the user asked for it. None: the environment decides."""

    project: str | None = None
    database: str | None = None
    namespace: str | None = None
    local: str | None = None
    """The file of an embedded Datastore."""


def ignored_emulator(options: TargetOptions) -> str | None:
    """The warning that the emulator set in the environment is not used; None if there is nothing to
    warn about.

    Without the warning, a user of both would look for the changes in the wrong one.
    """
    host = os.environ.get(EMULATOR_VARIABLE)
    if options.local is None or not host:
        return None
    return f"{EMULATOR_VARIABLE} ({host}) is not used: this works on the file {options.local}"


def _meant(missing: str) -> str:
    """` (did you mean 'shop.db'?)`, or an empty string if no file in that folder has a similar
    name."""
    folder, name = os.path.split(missing)
    try:
        there = [one.name for one in os.scandir(folder or os.curdir) if one.is_file()]
    except OSError:
        return ""  # the folder does not exist either
    close = [repr(os.path.join(folder, one)) for one in similar_names(name, there)[:2]]
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def check_is_there(local: str) -> None:
    """Raises UsageError if there is no such file of an embedded Datastore."""
    if not os.path.exists(local):
        raise UsageError(
            f"there is no file {local!r}{_meant(local)}; `bulkup local load` creates one from JSON "
            "lines, `bulkup demo` one to play with"
        )


@contextmanager
def open_target(options: TargetOptions, *, only_reads: bool = False) -> Iterator[Target]:
    """Resolve a target. If it is an embedded Datastore, serve it until the block ends.

    `only_reads`: if another process serves it, use that server. Raises UsageError, TargetError.
    """
    if options.local is None:
        yield resolve(options.project, options.database, options.namespace)
        return
    check_is_there(options.local)
    from bulkup.local.process import start_local
    from bulkup.local.sharing import served_by

    served = served_by(options.local) if only_reads else None
    if served is not None:
        yield resolve(
            options.project,
            options.database,
            options.namespace,
            local=options.local,
            address=served.host,
        )
        return
    with start_local(options.local) as server:
        yield resolve(
            options.project,
            options.database,
            options.namespace,
            local=options.local,
            address=server.host,
        )


def options_for(run_info: RunInfo, options: TargetOptions) -> TargetOptions:
    """The target options that the user gave; those that were not given come from the run.

    Raises MismatchError if the server is not the run's.
    """
    recorded = run_info.target
    if not (recorded.local or options.local):
        # Check before a client is created: with the wrong server it would ask for credentials.
        check_same_target(run_info, replace(recorded, emulator=emulator_host()))
    return TargetOptions(
        project=options.project or recorded.project,
        database=recorded.database if options.database is None else options.database,
        namespace=recorded.namespace if options.namespace is None else options.namespace,
        local=options.local or recorded.local or None,
    )


def check_same_target(run_info: RunInfo, target: TargetInfo) -> None:
    """Raises MismatchError."""
    recorded = run_info.target
    if target == recorded:
        return
    if target.emulator == recorded.emulator:
        how = "without --project, --database, --namespace and --local"
    elif recorded.emulator:
        how = f"with DATASTORE_EMULATOR_HOST={recorded.emulator}"
    else:
        how = "without DATASTORE_EMULATOR_HOST"
    raise MismatchError(
        f"run {run_info.run_id} is on {recorded}, not on {target}; repeat the command {how}, or "
        "start a new run"
    )
