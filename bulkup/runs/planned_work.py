"""What a plan is about, and a run that carries it out must be about, too."""

from __future__ import annotations

import hashlib

from bulkup.authoring.code_checksum import code_checksum
from bulkup.authoring.source_files import read_source
from bulkup.core.errors import BulkupError
from bulkup.core.plan import PlannedWork
from bulkup.core.version import __version__
from bulkup.runs.prepare import PreparedRun


def planned_work(prepared: PreparedRun) -> PlannedWork:
    """The work of a prepared run, as the first line of a plan has it."""
    source, target = prepared.source, prepared.target.info
    return PlannedWork(
        updater=source.name,
        description=source.description,
        spec=source.spec,
        checksum=source.checksum,
        code=_code_of(source.path, source.checksum),
        params=dict(prepared.params),
        target=target,
        fingerprint=prepared.query.fingerprint(target),
        identity=prepared.identity,
        created=prepared.context.clock.now(),
        version=__version__,
        selection=prepared.selection,
    )


def _code_of(path: str, checksum: str) -> str:
    """Empty where the source is not the one that was loaded: in no file, or changed since."""
    try:
        source = read_source(path) if path else b""
        if hashlib.sha256(source).hexdigest() == checksum:
            return code_checksum(source)
    except (BulkupError, SyntaxError, UnicodeDecodeError):
        pass  # loaded from bytecode, or deleted since
    return ""
