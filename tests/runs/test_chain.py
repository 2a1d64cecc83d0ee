"""A successor starts once, after success, whatever happens."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from google.cloud import datastore

from tests.cli.shell import Shell, ended, markers, seed
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)

LINK = """
    import os, signal
    import bulkup

    class {cls}(bulkup.Updater):
        '''Append {mark} to the trail.'''
        {then}

        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            if os.environ.get("DIE_AT") == "{mark}" and entity.key.id == 7:
                os.kill(os.getpid(), signal.SIGKILL)
            if os.environ.get("FAIL_AT") == "{mark}" and entity.key.id == 7:
                raise ValueError("not today")
            entity["trail"] = entity.get("trail", "") + "{mark}"
            self.put(entity)

        def finish(self, success, report):
            with open("finished.txt", "a") as file:
                print("{mark}", success, file=file)
            {finish}
"""


def trails(client: datastore.Client) -> set[str]:
    return {e.get("trail", "") for e in client.query(kind="Item").fetch()}


def write_chain(shell: Shell, folder: str = "") -> None:
    """Three links: one named in the class, one asked for in finish with a parameter."""
    pad = " " * 12
    shell.write(
        f"{folder}a.py",
        LINK.format(cls="A", mark="a", then='then = "links/b.py:B"', finish=""),
    )
    shell.write(
        f"{folder}links/b.py",
        LINK.format(
            cls="B", mark="b", then="",
            finish=f"if success:\n{pad}    self.then('c.py', word='c')",
        ),
    )  # fmt: skip
    shell.write(
        f"{folder}links/c.py",
        """
        import os, signal
        import bulkup

        @bulkup.updater(kind="Item")
        def c(entity, *, word: str = "?"):
            if os.environ.get("DIE_AT") == "c" and entity.key.id == 7:
                os.kill(os.getpid(), signal.SIGKILL)
            entity["trail"] += word
            return entity
        """,
    )


def machine(folder: Path, server: Server) -> Shell:
    folder.mkdir()
    shell = Shell(folder, server)
    write_chain(shell)
    return shell


@pytest.fixture
def chained(tmp_path: Path, embedded: Server) -> Shell:
    return machine(tmp_path / "one", embedded)


@pytest.fixture
def items(embedded: Server) -> datastore.Client:
    return seed(embedded, 12)


def test_a_chain_of_three_runs_to_its_end(chained: Shell, items: datastore.Client) -> None:
    result = chained.bulkup("run", "a.py", "--json")
    assert result.code == 0, result
    first, second, third = result.of_type("summary")
    assert trails(items) == {"abc"}
    assert [s["updater"] for s in (first, second, third)] == ["A", "B", "c"]
    assert first["successor"] == second["run_id"] == first["run_id"] + "+1"
    assert second["predecessor"] == first["run_id"]
    assert second["successor"] == third["run_id"] == first["run_id"] + "+2"
    assert third["successor"] == ""
    assert third["params"] == {"word": "c"}
    listed = {row["run_id"]: row for row in chained.bulkup("list", "--json").lines}
    assert listed[second["run_id"]]["predecessor"] == first["run_id"]
    assert second["run_id"] in chained.bulkup("list").out
    shown = chained.bulkup("show", first["run_id"])
    assert "Then run" in shown.out
    assert second["run_id"] in shown.out
    assert list(items.query(kind="BulkupClaim").fetch()) == []


def test_a_chain_of_three_survives_kills_on_several_machines(
    tmp_path: Path, server: Server
) -> None:
    client = seed(server, 12)
    small = ("run", "a.py", "--batch-size", "3", "--in-flight", "2")
    first, second = machine(tmp_path / "one", server), machine(tmp_path / "two", server)
    assert first.bulkup(*small, env={"DIE_AT": "a"}).code == -9
    assert second.bulkup(*small, env={"DIE_AT": "b"}).code == -9
    shutil.rmtree(second.state_dir)
    assert first.bulkup(*small, env={"DIE_AT": "b"}).code == -9
    assert second.bulkup(*small, env={"DIE_AT": "c"}).code == -9
    result = first.bulkup(*small)
    assert result.code == 0, result
    assert trails(client) == {"abc"}
    runs = [r.key.name for r in client.query(kind="BulkupRun").fetch()]
    assert len(runs) == 3
    assert list(client.query(kind="BulkupClaim").fetch()) == []


DIE_AT_CALL = """
    import os, signal
    from bulkup.state.checkpoint import Checkpoint
    from bulkup.state.run_records import Ledger
    write, end_work = Ledger.write, Checkpoint.end_work
    at = {at!r}
    def writing(ledger, record, **options):
        if options.get("successor") and at == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        written = write(ledger, record, **options)
        if options.get("successor") and at == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return written
    def ending(checkpoint, *args, **options):
        end_work(checkpoint, *args, **options)
        if options.get("successor") and at == "told":
            os.kill(os.getpid(), signal.SIGKILL)
    Ledger.write, Checkpoint.end_work = writing, ending
    from bulkup.cli import call
    raise SystemExit(call({args!r}))
"""


@pytest.mark.parametrize(
    ("at", "again"),
    [
        ("before", ("run", "a.py")),
        ("before", ("resume",)),
        ("after", ("run", "a.py")),
        ("after", ("resume",)),
        ("told", ("run", "a.py")),  # only Datastore has an unfinished run
    ],
)
def test_a_kill_around_the_end_starts_the_successor_once(
    chained: Shell, items: datastore.Client, at: str, again: tuple[str, ...]
) -> None:
    for _ in range(2):  # at the end of A, at the end of B
        assert chained.script(DIE_AT_CALL.format(at=at, args=["run", "a.py"])).code == -9
    result = chained.bulkup(*again)
    assert result.code == 0, result
    assert trails(items) == {"abc"}
    assert list(items.query(kind="BulkupClaim").fetch()) == []
    assert len(list(items.query(kind="BulkupRun").fetch())) == 3


def test_two_processes_at_once_start_one_successor(chained: Shell, items: datastore.Client) -> None:
    other = machine(chained.folder.parent / "two", Server("EM", *_target(chained)))
    started = [shell.begin("run", "a.py", "--wait", "60s") for shell in (chained, other)]
    # The process that waited ends as the run, or the whole chain, that the other has finished.
    assert [ended(process).code for process in started] == [0, 0]
    assert all(trail.startswith("abc") for trail in trails(items))
    runs = [r.key.name for r in items.query(kind="BulkupRun").fetch()]
    first = {name.partition("+")[0] for name in runs}
    assert sorted(runs) == sorted(f"{n}{end}" for n in first for end in ("", "+1", "+2"))
    assert trails(items) == {"abc" * len(first)}


def _target(shell: Shell) -> tuple[str, str]:
    environment = shell.environment
    return environment["DATASTORE_EMULATOR_HOST"], environment["GOOGLE_CLOUD_PROJECT"]


def test_no_successor_starts_until_a_failure_is_fixed(
    chained: Shell, items: datastore.Client, embedded: Server
) -> None:
    assert chained.bulkup("run", "a.py", env={"FAIL_AT": "a"}).code == 1
    assert trails(items) == {"", "a"}
    assert len(list(items.query(kind="BulkupRun").fetch())) == 1
    assert chained.bulkup("run", "a.py", env={"FAIL_AT": "b"}).code == 1
    assert trails(items) == {"a", "ab"}
    assert chained.bulkup("resume").code == 0
    assert trails(items) == {"abc"}
    told = (chained.folder / "finished.txt").read_text().splitlines()
    assert told == ["a False", "a True", "b False", "b True"]
    assert markers(embedded) == []


def test_a_chain_stopped_at_a_limit_resumes(chained: Shell, items: datastore.Client) -> None:
    codes: list[int] = []
    while not codes or codes[-1] == 75:
        codes.append(chained.bulkup("run", "a.py", "--limit", "7").code)
    assert codes == [75, 75, 75, 0]
    assert trails(items) == {"abc"}


def test_new_abandons_the_rest_of_the_chain(chained: Shell, items: datastore.Client) -> None:
    assert chained.bulkup("run", "a.py", env={"FAIL_AT": "b"}).code == 1
    assert chained.bulkup("run", "a.py", "--new").code == 0
    assert trails(items) == {"aabc", "ababc"}


def test_a_finish_that_raises_starts_no_successor(chained: Shell, items: datastore.Client) -> None:
    path = chained.folder / "a.py"
    path.write_text(path.read_text() + "        1 / 0\n")
    result = chained.bulkup("run", "a.py")
    assert result.code == 1
    assert "no successor begins" in result.err
    assert trails(items) == {"a"}


@pytest.mark.parametrize(
    ("then", "code", "says"),
    [
        ('then = "nope.py"', 10, "the successor of A: there is no file"),
        ('then = "a.py"', 2, "would follow itself forever"),
        ('then = "needs.py"', 2, "needs follows A with its default parameters"),
        ("then = 5", 2, "5 is not an updater"),
    ],
)
def test_an_invalid_successor_is_reported_before_anything_starts(
    chained: Shell, items: datastore.Client, then: str, code: int, says: str
) -> None:
    chained.write("a.py", LINK.format(cls="A", mark="a", then=then, finish=""))
    chained.write(
        "needs.py",
        """
        import bulkup
        @bulkup.updater(kind="Item")
        def needs(entity, *, word: str): ...
        """,
    )
    chained.bulkup("run", "a.py").fails(code, says)
    assert trails(items) == {""}
    assert chained.runs() == []


def test_then_is_refused_for_entities_and_for_two_successors(
    chained: Shell, items: datastore.Client
) -> None:
    chained.write(
        "wrong.py",
        """
        import bulkup
        class Wrong(bulkup.BulkPut):
            max_failures = -1
            def get_query(self):
                return self.client.query(kind="Item")
            def handle_entity(self, entity):
                self.then("a.py")
            def finish(self, success, report):
                self.then("a.py")
                self.then("a.py")
        """,
    )
    result = chained.bulkup("run", "wrong.py")
    assert result.code != 0
    assert "not in handle_entity" in result.out
    assert "then has already been called" in result.err
    assert trails(items) == {""}


def test_a_dry_run_starts_no_successor(chained: Shell, items: datastore.Client) -> None:
    assert chained.bulkup("run", "-n", "a.py").code == 0
    assert list(items.query(kind="BulkupRun").fetch()) == []


def test_a_migration_is_applied_once_its_chain_has_ended(
    chained: Shell, items: datastore.Client
) -> None:
    write_chain(chained, "updaters/")
    shutil.move(chained.folder / "updaters/a.py", chained.folder / "updaters/0001_a.py")
    chained.write(
        "updaters/0002_d.py",
        """
        import bulkup
        @bulkup.updater(kind="Item")
        def d(entity):
            entity["trail"] += "d"
            return entity
        """,
    )
    small = ("migrate", "--batch-size", "3")
    assert chained.bulkup(*small, env={"DIE_AT": "b"}).code == -9
    row = chained.bulkup("status", "--json").of_type("migration")[0]
    assert (row["standing"], row["updater"]) == ("interrupted", "B")
    shutil.rmtree(chained.state_dir)
    assert chained.bulkup(*small, env={"DIE_AT": "c"}).code == -9
    result = chained.bulkup(*small, "--json")
    assert result.code == 0, result
    assert result.of_type("migrate")[0]["applied"] == ["0001_a", "0002_d"]
    assert trails(items) == {"abcd"}
    assert chained.bulkup("status", "--check").code == 0
    assert chained.bulkup("migrate").out == "Nothing is pending.\n"
