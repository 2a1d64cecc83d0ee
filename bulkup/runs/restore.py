"""Start a run that puts entities back: what `bulkup undo` and `bulkup rewind` share.

The caller collects what is to be put back (`state/restore_list.py`), and provides an updater that
is a `Restorer` and whose parameters describe the run. Otherwise this is a run like any other: it is
paced, retried and resumed, has its own record and before-images, and can be undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from bulkup.core.events import Warned
from bulkup.core.model import TargetInfo
from bulkup.engine.restore import Restorer
from bulkup.engine.scan import QueryPlan
from bulkup.runs.context import RunContext
from bulkup.runs.key_input import KeySource
from bulkup.runs.prepare import PreparedRun, prepare
from bulkup.runs.target import TargetOptions
from bulkup.state.restore_list import RestoreList


@contextmanager
def prepare_restore(
    updater: type[Restorer],
    params: Mapping[str, str],
    read: Callable[[QueryPlan, TargetInfo], RestoreList],
    target_options: TargetOptions,
    context: RunContext,
    *,
    check_target: Callable[[TargetInfo], None] = lambda _: None,
) -> Iterator[PreparedRun]:
    """Prepare a run for `runs.start.start`. Raises BulkupError.

    When the run is resumed, `updater` is found by its module and name. `read` makes the list once
    the target has answered. `check_target`: see `prepare`.
    """
    options = context.options
    alone = replace(context, options=replace(options, processes=1))
    name = f"{updater.__module__}:{updater.__name__}"
    keys = KeySource(read)
    with prepare(
        name, params, target_options, alone, check_target=check_target, keys=keys
    ) as prepared:
        if options.processes > 1:
            message = f"{updater.__name__.lower()} computes nothing, so it ignores --processes"
            prepared.warnings.append(Warned(message))
        yield prepared
