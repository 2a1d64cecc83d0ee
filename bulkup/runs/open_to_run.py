"""Open a target for runs. The file of an embedded Datastore may be in use by another process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bulkup.core.errors import HeldError, UsageError
from bulkup.core.events import Warned, WarningKind
from bulkup.datastore.target import Target
from bulkup.local.sharing import FileInUseError, is_in_use
from bulkup.runs.context import RunContext
from bulkup.runs.target import TargetOptions, open_target

STEP_S = 0.5


@contextmanager
def open_to_run(options: TargetOptions, context: RunContext) -> Iterator[Target]:
    """Like `open_target`, but wait as long as `context` says while another process has the file
    open.

    Raises HeldError, UsageError, TargetError, StateError.
    """
    if options.local and not context.options.dry_run:
        _check_writable(options.local)
    clock = context.clock
    deadline = clock.monotonic() + (context.wait_s or 0.0)  # None: a dry run drops it
    with ExitStack() as stack:
        while True:
            try:
                target = stack.enter_context(open_target(options, only_reads=context.reads_beside))
                break
            except FileInUseError as error:
                what = error.message.partition("; wait until")[0]
                if clock.monotonic() >= deadline:
                    # A command that writes nothing has no --wait.
                    wait = "" if context.options.dry_run else ", or wait for it with --wait 30m"
                    raise HeldError(
                        f"{what}, so nothing was started; try again when that process has ended"
                        f"{wait} (if it is `bulkup local serve`, set DATASTORE_EMULATOR_HOST to "
                        "its address)"
                    ) from error
                if not context.waited_from:
                    context.waited_from.append(clock.monotonic())
                    context.listener(Warned(f"waiting: {what}", WarningKind.WAITING))
            clock.sleep(STEP_S)
            # Cheaper than starting a server that would find the file in use.
            while options.local and is_in_use(options.local) and clock.monotonic() < deadline:
                clock.sleep(STEP_S)
        yield target


def _check_writable(file: str) -> None:
    """Check that the file is writable. SQLite would notice only at the first write, after the run
    has begun. Raises UsageError."""
    if os.path.exists(file) and not os.access(file, os.W_OK):
        raise UsageError(
            f"the file {file!r} cannot be written; make it writable (`chmod u+w`), or copy it and "
            "run on the copy"
        )
