"""bulkup local load --from-export"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bulkup.cli.local_file import entities, interruptible, progress_bar, say
from bulkup.core.visible import visible

if TYPE_CHECKING:
    from bulkup.local.importing.load import Destination
    from bulkup.local.importing.report import Group, KindCount, LoadReport
    from bulkup.local.importing.selection import Selection

_MAX_LINES = 20
"""Lines shown of each list."""


def load_from_export(
    file: str, source: str, selection: Selection, destination: Destination, *, json: bool
) -> None:
    """Load an export with a progress bar, and print what was loaded and what was not."""
    from bulkup.local.importing.load import load_export, open_source
    from bulkup.report.json_lines import stdout_lines

    lines = stdout_lines() if json else None
    with interruptible("nothing was loaded"):
        export = open_source(source)
        total = sum(one.size for one in export.files if selection.may_hold(one.part))
        with progress_bar("Loading", total, shown=not json) as advance:
            report = load_export(file, export, selection, destination, advance)
    kinds = {one.kind for one in report.kinds}
    empty = [kind for kind in dict.fromkeys(selection.kinds) if kind not in kinds]
    if lines is not None:
        lines.write("loaded", _fields(report, file, source, empty))
        return
    for line in report_lines(report, file):
        say(line)
    for kind in empty:
        say(no_entity(kind, "loaded"))


def _fields(report: LoadReport, file: str, source: str, empty: Sequence[str]) -> dict[str, Any]:
    whole = report.to_json()
    entities = whole.pop("entities")
    whole["kinds"] = [kind._asdict() for kind in report.kinds]
    return {
        "file": file,
        "source": source,
        "entities": entities,
        "with_new_ids": 0,
        "export": {**whole, "empty_kinds": list(empty)},
    }


def no_entity(kind: str, what: str) -> str:
    """What to say about a requested kind without entities, whose name may be wrong."""
    return f"No entity of kind {visible(kind)} was {what}; check its name (case matters)."


def report_lines(report: LoadReport, file: str) -> Iterator[str]:
    """What a load has done, and everything that differs from the export."""
    if report.was_loaded:
        yield f"{file} holds this already: {_found(report)}. Nothing was written."
    else:
        if report.deleted_another:
            yield (
                f"{file}-loading was of another load (of another export, or with other options), "
                "and was deleted."
            )
        if report.resumed_at:
            yield f"Resumed after {entities(report.resumed_at)} that had been loaded before."
        yield f"{_found(report)} loaded into {file}."
    yield from _kinds(report.kinds)
    if report.left_out:
        yield f"{entities(report.left_out)} left out: of other kinds or namespaces."
    if report.not_sampled:
        yield f"{entities(report.not_sampled)} left out: not in the sample."
    if report.repeated:
        yield (
            f"{report.repeated:,} of the entities came again with the same key, and the last one "
            "was loaded."
        )
    if report.skipped:
        yield f"{entities(report.skipped_entities)} NOT loaded, which FILE cannot hold:"
        yield from _groups(report.skipped)
    if report.irregular:
        yield (
            f"{entities(report.irregular_entities)} loaded as they are that Datastore would not "
            "accept today. An updater that puts one of them fails, unless it changes this:"
        )
        yield from _groups(report.irregular)


def _found(report: LoadReport) -> str:
    namespaces = len({kind.namespace for kind in report.kinds})
    kinds = len({kind.kind for kind in report.kinds})
    if namespaces < 2 and kinds < 2:
        return entities(report.entities)
    where = f" in {namespaces} namespaces" if namespaces > 1 else ""
    return f"{entities(report.entities)} of {kinds} kind{'s' if kinds > 1 else ''}{where}"


def _kinds(kinds: Sequence[KindCount]) -> Iterator[str]:
    for one in kinds[:_MAX_LINES]:
        where = f" (namespace {one.namespace})" if one.namespace else ""
        yield f"  {one.entities:>12,}  {one.kind}{where}"
    yield from _more(len(kinds))


def _groups(groups: Sequence[Group]) -> Iterator[str]:
    for one in groups[:_MAX_LINES]:
        kind = one.kind or "several kinds"
        yield f"  {one.entities:>12,}  {kind}: {one.reason.rstrip('.')}; the first is {one.first}"
    yield from _more(len(groups))


def _more(count: int) -> Iterator[str]:
    if count > _MAX_LINES:
        yield f"  and {count - _MAX_LINES:,} more"
