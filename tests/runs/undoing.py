"""What the tests of `bulkup undo` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bulkup
from bulkup.core.events import Event, Report
from bulkup.datastore.keys import key_of, key_text
from bulkup.engine.options import Options
from bulkup.runs.context import RunContext
from bulkup.runs.target import TargetOptions
from bulkup.runs.undo import UndoWishes, undo
from bulkup.state.kinds import OWN_KINDS
from tests.cli.shell import contents
from tests.conftest import Server


class Bench:
    """Runs and undos on one server, with their state in one folder."""

    def __init__(self, server: Server, state_dir: Path) -> None:
        self.server = server
        self.state_dir = state_dir
        self.client = server.client()
        self.events: list[Event] = []

    def run(self, updater: Any, **options: Any) -> Report:
        options.setdefault("state_dir", self.state_dir)
        return bulkup.run(updater, project=self.server.project, **options)

    def undo(
        self, run: Report | str, *, namespace: str | None = None, options: Any = None, **wishes: Any
    ) -> Report:
        name = run if isinstance(run, str) else run.run_id
        context = RunContext(options or Options(), self.state_dir, self.events.append)
        target = TargetOptions(self.server.project, namespace=namespace)
        return undo(name, target, context, UndoWishes(**wishes))

    def folder(self, run: Report) -> Path:
        return self.state_dir / run.run_id


def entities(server: Server, *namespaces: str) -> dict[str, bytes]:
    """Every entity but bulkup's own, to the bit, by the text of its key."""
    found = {}
    for key, (_, raw) in contents(server, *namespaces).items():
        if key_of(key).path[-1].kind not in OWN_KINDS:
            found[key_text(key_of(key))] = raw
    return found
