"""Updaters of other forms than one call for an entity, with all that a user does before and after a
run."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkup.core.errors import Exit
from tests.cli.shell import Shell
from tests.conftest import Server
from tests.engine.conftest import fill

HEAD = """
    from bulkup import Updater

    class Seven(Updater):
        max_failures = -1

        def get_query(self):
            return self.client.query(kind="Thing")
"""

BATCH = """
        def handle_batch(self, entities):
            notes = self.client.get_multi([self.client.key("Note", e["i"]) for e in entities])
            for entity, note in zip(entities, notes, strict=True):
                if entity["bad"] == entity["i"]:
                    self.fail(entity, "bad")
                entity["n"] = note["n"] = 7
                self.put(entity)
                self.put(note, owner=entity)
"""

ASYNC = """
        concurrency = 4

        async def handle_entity(self, entity):
            import asyncio
            await asyncio.sleep(0.001)
            note = await asyncio.to_thread(self.client.get, self.client.key("Note", entity["i"]))
            if entity["bad"] == entity["i"]:
                raise ValueError("bad")
            entity["n"] = note["n"] = 7
            self.put(entity, note)
"""

FORMS = {"batch": (BATCH, "failed it: bad"), "async": (ASYNC, "raised ValueError: bad")}


def numbers(shell_client: object, kind: str) -> list[int]:
    return [entity["n"] for entity in shell_client.query(kind=kind).fetch()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_what_comes_before_and_after_a_run(
    embedded: Server, tmp_path: Path, form: str, processes: int
) -> None:
    shell = Shell(tmp_path, embedded)
    client = fill(embedded, "Thing", 9, n=0, bad=4)
    fill(embedded, "Note", 9, n=0)
    source, failed = FORMS[form]
    shell.write("seven.py", HEAD + source)
    plan = shell.bulkup("plan", "seven.py")
    assert (plan.code, "Of 9 entities, 8 written" in plan.out) == (Exit.DONE_WITH_FAILURES, True)
    dry = shell.bulkup("run", "seven.py", "--dry-run")
    assert (dry.code, "n: 0 → 7" in dry.out) == (Exit.DONE_WITH_FAILURES, True), dry
    assert f"Key('Thing', 4): the updater {failed}" in dry.out
    assert numbers(client, "Thing") == [0] * 9
    ran = shell.bulkup("run", "seven.py", "--processes", processes, "--batch-size", "4")
    assert ran.code == Exit.DONE_WITH_FAILURES, ran
    assert numbers(client, "Thing") == numbers(client, "Note") == [7, 7, 7, 0, 7, 7, 7, 7, 7]
    verified = shell.bulkup("verify", "seven.py")
    assert (verified.code, "Key('Thing', 4)" in verified.out) == (Exit.PENDING, True), verified
    thing = client.get(client.key("Thing", 4))
    thing["bad"] = 0
    client.put(thing)
    assert shell.bulkup("retry", shell.runs()[0]).code == Exit.DONE
    assert numbers(client, "Thing") == numbers(client, "Note") == [7] * 9
    assert shell.bulkup("verify", "seven.py").code == Exit.DONE
    assert shell.bulkup("undo", shell.runs()[0], "--yes").code == Exit.DONE
    assert numbers(client, "Thing") == numbers(client, "Note") == [0] * 9
