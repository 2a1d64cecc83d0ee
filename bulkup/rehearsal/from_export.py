"""The copy that a rehearsal makes of a managed export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bulkup.local.exports.place import Database
from bulkup.local.importing.load import Destination, load_export, open_source
from bulkup.local.importing.report import Group, LoadReport
from bulkup.local.importing.selection import Selection
from bulkup.rehearsal.request import Fill, Watch
from bulkup.runs.target import TargetOptions

_MOST_SHOWN = 10


def fill_from_export(source: str, target: TargetOptions, sample: float | None = None) -> Fill:
    """A function that loads an export, or a sample of its entity groups, as the project and
    database of a target.

    `source`: as `load_export` takes it. The function raises what `load_export` raises.
    """

    def fill(file: Path, watch: Watch) -> tuple[str, ...]:
        export = open_source(source)
        report = load_export(
            file,
            export,
            Selection(sample=sample),
            Destination(Database(target.project or "local", target.database or "")),
            lambda entities, _: watch("Load the export", entities, export.promised_entities),
        )
        return tuple(_left_out(report))

    return fill


def _left_out(report: LoadReport) -> Iterator[str]:
    """Sentences on what the copy lacks, and on what it contains that a commit would refuse."""
    if report.skipped:
        yield (
            f"{report.skipped_entities:,} entities of the export were not loaded, because the "
            f"embedded Datastore cannot hold them: {_groups(report.skipped)}."
        )
    if report.irregular:
        yield (
            f"{report.irregular_entities:,} entities hold what Datastore would not accept today, "
            "so an updater that puts one fails, here as in production: "
            f"{_groups(report.irregular)}."
        )


def _groups(groups: tuple[Group, ...]) -> str:
    shown = [
        f"{one.entities:,} of {one.kind or 'several kinds'} ({one.reason.rstrip('.')}; the first "
        f"is {one.first})"
        for one in groups[:_MOST_SHOWN]
    ]
    more = [f"and {len(groups) - _MOST_SHOWN:,} more"] if len(groups) > _MOST_SHOWN else []
    return "; ".join([*shown, *more])
