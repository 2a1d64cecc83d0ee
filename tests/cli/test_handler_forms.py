"""Updaters of other forms than one call for an entity, with all that a user does before and after a
run."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkup.core.errors import Exit
from tests.cli.shell import Shell
from tests.conftest import Server
from tests.engine.conftest import fill

pytestmark = pytest.mark.sampled(9)

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


@pytest.mark.one_in(2)
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


ORDERED = """
    import asyncio
    from bulkup import Updater

    class Ordered(Updater):
        def get_query(self):
            return self.client.query(kind="Thing", order=["n"])

        def is_done(self, entity):
            return entity["n"] >= 100
"""

MOVES = {
    "batch": """
        def handle_batch(self, entities):
            for entity in entities:
                entity["n"] = 100 + entity["i"]
                self.put(entity)
""",
    "async": """
        concurrency = 3

        async def handle_entity(self, entity):
            await asyncio.sleep(0.001 * (entity["i"] % 3))
            entity["n"] = 100 + entity["i"]
            self.put(entity)
""",
}


@pytest.mark.parametrize("form", MOVES)
def test_entities_that_move_in_their_query_are_handled_once_and_passes_leave_them_alone(
    embedded: Server, tmp_path: Path, form: str
) -> None:
    shell = Shell(tmp_path, embedded)
    client = fill(embedded, "Thing", 9, n=0)
    shell.write("ordered.py", ORDERED + MOVES[form])
    ran = shell.bulkup("run", "ordered.py", "--until-clean", "--batch-size", "2")
    assert ran.code == Exit.DONE, ran
    assert "entities move while they are read" in ran.err
    assert "the passes wrote 9, 0" in ran.out
    assert sorted(numbers(client, "Thing")) == list(range(101, 110))


def test_a_process_that_an_async_handler_forks_does_not_become_a_second_run(
    embedded: Server, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, embedded)
    client = fill(embedded, "Thing", 6, n=0)
    shell.write(
        "forks.py",
        """
        import asyncio, os, bulkup

        @bulkup.updater(kind="Thing")
        async def forks(entity):
            await asyncio.sleep(0)
            if entity["i"] == 3 and (child := os.fork()):
                await asyncio.to_thread(os.waitpid, child, 0)
            return {"n": entity["n"] + 1}
        """,
    )
    ran = shell.bulkup("run", "forks.py")
    assert ran.code == Exit.DONE, ran
    assert "which the updater has forked and which has returned from its handler" in ran.err
    assert numbers(client, "Thing") == [1] * 6
