"""Handle the failed entities of a finished run again, by key: what `bulkup retry` calls.

A retry is a run of its own, on the keys of the failures. It has the updater, the parameters and the
target of the first run. The code may have changed, which is the point of a retry. When the retry is
finished, the first run's list of failures is brought up to date. Until then the list is unchanged,
so the same command finds the same keys, and by them the unfinished retry.

The folder of the first run stays locked all the while. Otherwise, of two retries at once, the
second would work on a list that the first one changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bulkup.core.errors import HeldError, UsageError
from bulkup.core.events import Event, Report, RunStarted, Warned
from bulkup.core.model import RunState, TargetInfo
from bulkup.datastore.keys import key_of, key_text
from bulkup.engine.scan import QueryPlan
from bulkup.runs.acquire import lock_folder
from bulkup.runs.context import RunContext
from bulkup.runs.key_input import BadKeyError, KeyCheck, KeySource, keys_from_file
from bulkup.runs.prepare import PreparedRun, prepare
from bulkup.runs.start import start
from bulkup.runs.target import TargetOptions, check_same_target, options_for
from bulkup.runs.which_run import RETRY
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import CHECKPOINT_NAME, RunLock, find_run, is_latest
from bulkup.state.key_list import KeyList


@contextmanager
def open_to_retry(name: str, context: RunContext) -> Iterator[Checkpoint]:
    """Lock and open the checkpoint of the run whose failures are to be handled again. If the named
    run is a retry, open the run that it retries. The checkpoint then includes the results of
    finished retries.

    Raises NotFoundError, UsageError, HeldError, StateError.
    """
    folder = _first_folder(find_run(context.state_dir, name, RETRY.fits))
    lock = lock_folder(folder, context)
    try:
        with closing(Checkpoint.open(folder)) as checkpoint:
            state = checkpoint.status().state
            if not state.is_over:
                raise UsageError(
                    f"run {folder.name} is not finished; continue it first (`bulkup resume "
                    f"{folder.name}`), then retry what has failed"
                )
            for run_id, count in checkpoint.retries().items():
                if count is None:
                    _settle(checkpoint, run_id)
            before = checkpoint.retries()
            yield checkpoint
            retries = checkpoint.retries()
        if retries != before:
            is_latest(folder.with_name([*retries][-1]))
    finally:
        lock.release()


def _first_folder(folder: Path) -> Path:
    with closing(Checkpoint.open(folder, check=False)) as checkpoint:
        first = folder.with_name(checkpoint.run_info.retry_of or folder.name)
    return first if (first / CHECKPOINT_NAME).exists() else folder


@dataclass
class _Failures:
    """The failures of a run, as keys."""

    checkpoint: Checkpoint
    warn: Callable[[str], None]

    def read(self, query: QueryPlan, target: TargetInfo) -> KeyList:
        run_id = self.checkpoint.run_info.run_id
        return KeyList.of(self._keys(query, target), f"failures of {run_id}", matching=True)

    def _keys(self, query: QueryPlan, target: TargetInfo) -> Iterator[bytes]:
        check = KeyCheck(query, target)
        for text in self.checkpoint.keys_to_retry():
            try:
                yield check.key(text)
            except BadKeyError as error:
                self.warn(f"a failure is left out: {error}")


@contextmanager
def prepare_retry(
    checkpoint: Checkpoint,
    target_options: TargetOptions,
    context: RunContext,
    *,
    keys_from: str | None = None,
) -> Iterator[PreparedRun]:
    """Prepare a retry of the run of a checkpoint. `keys_from`: a file of keys to handle instead of
    those of its failures.

    Options that the user leaves at their defaults are those of the run. Raises BulkupError.
    """
    run_info = checkpoint.run_info

    def listen(event: Event) -> None:
        if isinstance(event, RunStarted) and not event.dry_run:
            checkpoint.begin_retry(event.run_id)
        context.listener(event)

    source = (
        keys_from_file(keys_from)
        if keys_from is not None
        else KeySource(_Failures(checkpoint, lambda text: context.listener(Warned(text))).read)
    )
    settled = frozenset(id_ for id_, count in checkpoint.retries().items() if count is not None)
    with prepare(
        run_info.spec,
        run_info.params,
        options_for(run_info, target_options),
        replace(
            context,
            options=context.options.or_as(checkpoint.status().asked),
            listener=listen,
        ),
        check_target=lambda target: check_same_target(run_info, target),
        selection=run_info.selection,
        keys=replace(source, retry_of=run_info.run_id, settled=settled),
    ) as prepared:
        yield prepared


def retry(prepared: PreparedRun, checkpoint: Checkpoint) -> Report:
    """Execute a retry, new or unfinished, to its end, and bring the failures of the first run up to
    date. Raises what `start` raises."""
    report = start(prepared)
    if not report.dry_run:
        _settle(checkpoint, report.run_id)
    return report


def settle_retry(retried: Checkpoint, context: RunContext) -> None:
    """Bring the failures of the first run up to date, after one of its retries was resumed. If the
    first run's folder is in use, its next retry does that; if the folder is gone, nothing is
    done."""
    if not retried.run_info.retry_of:
        return
    folder = retried.folder.with_name(retried.run_info.retry_of)
    if not (folder / CHECKPOINT_NAME).exists():
        return
    lock = RunLock(folder)
    try:
        lock.acquire()
    except HeldError:
        message = (
            f"the list of failures of run {folder.name} is brought up to date by its next retry"
        )
        context.listener(Warned(message))
        return
    try:
        with closing(Checkpoint.open(folder, check=False)) as first:
            _settle(first, retried.run_info.run_id)
    finally:
        lock.release()


def note_retry_undone(retried: Checkpoint, *, brought_back: bool = False) -> None:
    """Record in the first run that a retry was undone, so that what it handled has failed again;
    or, with `brought_back`, that this undo was undone itself. Does nothing for other runs. It also
    does nothing while the first run's folder is locked: then that run is being undone together with
    its retry."""
    folder = retried.folder.with_name(retried.run_info.retry_of or retried.folder.name)
    if folder == retried.folder or not (folder / CHECKPOINT_NAME).exists():
        return
    lock = RunLock(folder)
    try:
        lock.acquire()
    except HeldError:
        return
    try:
        with closing(Checkpoint.open(folder, check=False)) as first:
            run_id = retried.run_info.run_id
            if brought_back:
                _settle(first, run_id, again=True)
            elif (keys := KeyList.kept_in(retried.folder)) is not None:
                with closing(keys):
                    first.retry_undone(run_id, (key_text(key_of(key)) for key in keys))
    finally:
        lock.release()


def _settle(first: Checkpoint, run_id: str, *, again: bool = False) -> None:
    """Update the first run's failures with what a retry has done, once the retry is finished."""
    folder = first.folder.with_name(run_id)
    is_settled = first.retries().get(run_id) is not None and not again
    if is_settled or not (folder / CHECKPOINT_NAME).exists():
        return
    with closing(Checkpoint.open(folder, check=False)) as retried:
        if retried.status().state is not RunState.FINISHED:
            return
        keys = KeyList.kept_in(folder)
        if keys is None:
            return
        with closing(keys):
            texts = (key_text(key_of(key)) for key in keys)
            first.end_retry(run_id, texts, retried.failures(), unnamed=retried.unnamed())
