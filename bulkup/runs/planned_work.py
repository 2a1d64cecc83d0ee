"""The work that a plan describes. A run that carries out the plan must do the same work."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bulkup.authoring.imported_code import checksum_with_imports
from bulkup.authoring.source_files import read_source
from bulkup.core.errors import BulkupError
from bulkup.core.plan import PlannedWork
from bulkup.core.version import __version__
from bulkup.runs.prepare import PreparedRun


def planned_work(prepared: PreparedRun) -> PlannedWork:
    """The work of a prepared run, as the first line of a plan describes it."""
    source, target = prepared.source, prepared.target.info
    return PlannedWork(
        updater=source.name,
        description=source.description,
        spec=source.spec,
        checksum=source.checksum,
        code=_code_of(source.path, source.checksum, source.spec),
        params=dict(prepared.params),
        target=target,
        fingerprint=prepared.query.fingerprint(target),
        identity=prepared.identity,
        created=prepared.context.clock.now(),
        version=__version__,
        selection=prepared.selection,
    )


def _code_of(path: str, checksum: str, spec: str) -> str:
    """A checksum of the code with its imports. Empty if the source that was loaded is in no file,
    or has changed since."""
    module = spec.rpartition(":")[0]
    dotted = "" if module.endswith(".py") else module
    try:
        source = read_source(path) if path else b""
        if hashlib.sha256(source).hexdigest() == checksum:
            return checksum_with_imports(Path(path), source, dotted)
    except (BulkupError, SyntaxError, UnicodeDecodeError, OSError):
        pass  # loaded from bytecode, or deleted since
    return ""
