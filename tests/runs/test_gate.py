"""`--gate clean`: writing begins only after a dry pass over everything, in which nothing failed."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from google.cloud import datastore

import bulkup
from bulkup.core.errors import Exit
from bulkup.core.events import Event, GatePassed, RunEnded, RunStarted
from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import Shell, contents, seed, user_data, values
from tests.conftest import Server
from tests.migrations.conftest import trails, write_step
from tests.namespaces.conftest import Tenants, make_tenants

pytestmark = pytest.mark.sampled(9)

COUNT = 7

UPDATER = """
    import os, signal
    import bulkup

    class Count(bulkup.Updater):
        seen = 0

        def get_query(self):
            return self.client.query(kind="Item")

        def check_before(self, client):
            with open("checks.txt", "a") as file:
                print("before", file=file)

        def handle_entity(self, entity):
            self.seen += 1
            with open("handled.txt", "a") as file:
                print(entity.key.id, self.seen, file=file)
            if str(entity.key.id) in os.environ.get("FAIL_AT", "").split():
                raise ValueError("not today")
            if os.environ.get("DIE_AT") == str(self.seen) and os.path.exists("handled.txt"):
                if sum(1 for _ in open("handled.txt")) > int(os.environ["DIE_AFTER"]):
                    os.kill(os.getpid(), signal.SIGKILL)
            if os.environ.get("STOP_AT") == str(entity.key.id):
                os.kill(os.getpid(), signal.SIGTERM)
            entity["n"] += 1
            self.put(entity)
"""

FUNCTION = """
    import os
    import bulkup

    @bulkup.updater(kind="Item")
    def count(entity):
        if str(entity.key.id) in os.environ.get("FAIL_AT", "").split():
            raise ValueError("not today")
        entity["n"] += 1
        return entity
"""

FORMS = pytest.mark.parametrize("form", [UPDATER, FUNCTION], ids=["class", "function"])


def project(folder: Path, server: Server, form: str = UPDATER) -> Shell:
    shell = Shell(folder, server)
    shell.write("count.py", form)
    return shell


def lines(shell: Shell, name: str) -> list[str]:
    path = shell.folder / name
    return path.read_text().split("\n")[:-1] if path.exists() else []


@pytest.mark.one_in(3)
@FORMS
def test_a_clean_gate_opens_and_the_report_says_what_it_found(
    tmp_path: Path, server: Server, form: str
) -> None:
    client = seed(server, COUNT)
    shell = project(tmp_path, server, form)
    result = shell.bulkup("run", "count.py", "--gate", "clean")
    assert result.code == 0, result
    assert set(values(client).values()) == {1}
    assert "Nothing is written before this dry pass is clean (--gate clean)." in result.err
    held = "; check_before holds" if form is UPDATER else ""
    found = f"clean: a dry pass of 7 entities would write 7, 0 failed{held}"
    assert f"Gate: {found}. Writing begins." in result.err
    assert found in result.out
    (run_id,) = shell.runs()
    assert found in shell.bulkup("show", run_id).out
    assert found in (shell.state_dir / run_id / "report.txt").read_text()


def test_the_dry_pass_has_an_updater_of_its_own(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    assert shell.bulkup("run", "count.py", "--gate", "clean").code == 0
    assert lines(shell, "handled.txt") == [f"{i} {i}" for i in range(1, COUNT + 1)] * 2
    assert lines(shell, "checks.txt") == ["before", "before"]  # and right before the first write


@pytest.mark.one_in(3)
@FORMS
@pytest.mark.parametrize("budget", [(), ("--max-failures", "5")], ids=["none", "5"])
def test_one_failure_closes_the_gate_whatever_the_budget(
    tmp_path: Path, server: Server, form: str, budget: tuple[str, ...]
) -> None:
    client = seed(server, COUNT)
    shell = project(tmp_path, server, form)
    before = contents(server)
    command = ("run", "count.py", "--gate", "clean", *budget)
    result = shell.bulkup(*command, env={"FAIL_AT": "5"})
    assert result.code == Exit.FAILED, result
    assert result.out.startswith("Gate closed; nothing was written"), result.out
    assert "Key('Item', 5)" in result.out
    assert "not today" in result.out
    assert contents(server) == before
    assert shell.runs() == []
    told = shell.bulkup(*command, "--json", env={"FAIL_AT": "5"})
    keeps_the_contract(told.lines)
    assert told.of_type("gate") == []
    summary = told.summary
    assert (summary["state"], summary["exit_code"], summary["dry_run"]) == ("failed", 1, True)
    assert summary["gate"]["passed"] is False
    assert summary["gate"]["counts"]["failed"] == 1
    assert contents(server) == before
    assert shell.bulkup(*command).code == 0
    assert set(values(client).values()) == {1}


def test_json_tells_of_the_pass_and_of_the_run(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    result = shell.bulkup("run", "count.py", "--gate", "clean", "--json")
    assert result.code == 0
    keeps_the_contract(result.lines)
    starts = result.of_type("start")
    assert [(s["dry_run"], s.get("gate", False)) for s in starts] == [(True, True), (False, False)]
    (gate,) = result.of_type("gate")
    assert (gate["passed"], gate["counts"]["written"], gate["checked_before"]) == (True, 7, True)
    assert result.of_type("change") == []
    assert {k: gate[k] for k in result.summary["gate"]} == result.summary["gate"]
    shown = shell.bulkup("show", "--json")
    assert shown.summary["gate"] == result.summary["gate"]


def test_a_resumed_run_does_not_repeat_the_pass_and_says_so(tmp_path: Path, server: Server) -> None:
    client = seed(server, COUNT)
    shell = project(tmp_path, server)
    command = ("run", "count.py", "--gate", "clean", "--batch-size", "1")
    stopped = shell.bulkup(*command, "--limit", "3")
    assert stopped.code == Exit.LIMIT, stopped
    assert len(lines(shell, "handled.txt")) == COUNT + 3  # the limit is not the dry pass's
    shutil.rmtree(shell.state_dir)
    resumed = shell.bulkup(*command, env={"FAIL_AT": "1"})
    assert resumed.code == 0, resumed
    assert "its dry pass (--gate clean) was clean before it began, and is not repeated" in (
        resumed.err
    )
    assert "0 failed; check_before holds; not repeated on resume" in resumed.out
    assert set(values(client).values()) == {1}
    assert lines(shell, "checks.txt") == ["before", "before"]


def test_resume_needs_no_gate(tmp_path: Path, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    assert shell.bulkup("run", "count.py", "--gate", "clean", "--limit", "3").code == Exit.LIMIT
    result = shell.bulkup("resume", "--json")
    assert result.code == 0
    assert result.summary["gate"]["passed"] is True
    assert set(values(client).values()) == {1}


def test_a_run_that_began_without_a_gate_is_not_resumed_as_if_it_had_one(
    tmp_path: Path, embedded: Server
) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    assert shell.bulkup("run", "count.py", "--limit", "3", "--batch-size", "1").code == Exit.LIMIT
    before = contents(embedded)
    result = shell.bulkup("run", "count.py", "--gate", "clean")
    result.fails(Exit.USAGE, "was started without --gate clean", "--new")
    assert contents(embedded) == before
    assert shell.bulkup("run", "count.py").code == 0
    assert set(values(client).values()) == {1}


def test_a_closed_gate_does_not_abandon_the_run_that_new_would_replace(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    assert shell.bulkup("run", "count.py", "--limit", "3").code == Exit.LIMIT
    before = contents(embedded)
    new = ("run", "count.py", "--new", "--gate", "clean")
    assert shell.bulkup(*new, env={"FAIL_AT": "7"}).code == Exit.FAILED
    assert contents(embedded) == before
    assert shell.bulkup(*new).code == 0


@pytest.mark.client_side
def test_a_signal_or_a_limit_of_time_in_the_dry_pass_starts_nothing(
    tmp_path: Path, server: Server
) -> None:
    client = seed(server, COUNT)
    shell = project(tmp_path, server)
    before = contents(server)
    stopped = shell.bulkup("run", "count.py", "--gate", "clean", env={"STOP_AT": "4"})
    assert stopped.code == 128 + signal.SIGTERM
    assert stopped.out.startswith("Interrupted before the first write"), stopped.out
    timed = shell.bulkup("run", "count.py", "--gate", "clean", "--max-time", "0s")
    assert timed.code == Exit.LIMIT
    assert timed.out.startswith("Stopped at a limit before the first write"), timed.out
    assert contents(server) == before
    assert shell.runs() == []
    assert shell.bulkup("run", "count.py", "--gate", "clean").code == 0
    assert set(values(client).values()) == {1}


@pytest.mark.parametrize("after", [0, COUNT])
def test_killed_in_the_dry_pass_or_after_it_the_same_command_ends_the_work(
    tmp_path: Path, embedded: Server, after: int
) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    command = ("run", "count.py", "--gate", "clean", "--batch-size", "1")
    dead = shell.bulkup(*command, env={"DIE_AT": "4", "DIE_AFTER": str(after)})
    assert dead.code == -signal.SIGKILL
    assert (shell.runs() == []) == (after == 0)
    assert shell.bulkup(*command).code == 0
    assert set(values(client).values()) == {1}


def test_a_write_past_the_run_is_refused_in_the_dry_pass(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, COUNT)
    shell = Shell(tmp_path, embedded)
    for write in ("bulkup.client().put(entity)", "datastore.Client().put(entity)"):
        shell.write(
            "own.py",
            f"""
            import bulkup
            from google.cloud import datastore

            @bulkup.updater(kind="Item")
            def own(entity):
                {write}
            """,
        )
        before = contents(embedded)
        result = shell.bulkup("run", "own.py", "--gate", "clean")
        assert result.code == Exit.FAILED
        assert "WriteInDryRunError" in result.out
        assert contents(embedded) == before


def test_a_dry_run_and_a_gate_exclude_each_other(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    refused = shell.bulkup("run", "-n", "count.py", "--gate", "clean")
    assert refused.code == Exit.USAGE
    assert "a dry run is what --gate clean does first" in refused.err
    shell.write("bulkup.toml", 'gate = "clean"\n')
    assert shell.bulkup("run", "-n", "count.py").code == 0
    assert "Gate: clean" in shell.bulkup("run", "count.py").err
    shell.write("bulkup.toml", 'gate = "dirty"\n')
    assert shell.bulkup("run", "count.py").code == Exit.USAGE


def write_chain(shell: Shell) -> None:
    shell.write(
        "first.py",
        UPDATER.replace("seen = 0", "seen = 0\n        then = 'second.py:Count'"),
    )
    shell.write("second.py", UPDATER.replace('["n"] += 1', '["n"] = 10 // entity["n"]'))


def test_each_run_of_a_chain_has_a_dry_pass_when_its_turn_comes(
    tmp_path: Path, embedded: Server
) -> None:
    """The second one's would fail before the first has run: it divides by what that writes."""
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    write_chain(shell)
    result = shell.bulkup("run", "first.py", "--gate", "clean", "--json")
    assert result.code == 0, result
    assert [gate["counts"]["written"] for gate in result.of_type("gate")] == [COUNT, COUNT]
    assert set(values(client).values()) == {10}


@pytest.mark.parametrize("again", [("resume",), ("run", "first.py", "--gate", "clean")], ids=str)
def test_a_successor_whose_gate_stays_closed_waits_and_is_tried_again(
    tmp_path: Path, embedded: Server, again: tuple[str, ...]
) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    write_chain(shell)
    good = (shell.folder / "second.py").read_text()
    shell.write("second.py", good.replace("10 //", "10 // 0 *"))
    result = shell.bulkup("run", "first.py", "--gate", "clean", "--json")
    assert result.code == Exit.FAILED, result
    first, second = result.of_type("summary")
    assert (first["state"], first["gate"]["passed"]) == ("finished", True)
    assert (second["state"], second["gate"]["passed"]) == ("failed", False)
    assert second["next_steps"] == [f"bulkup resume {first['run_id']}"]
    before = user_data(embedded)
    assert shell.bulkup(*again).code == Exit.FAILED
    assert user_data(embedded) == before
    assert set(values(client).values()) == {1}
    (shell.folder / "second.py").write_text(good)
    fixed = shell.bulkup(*again, "--json")
    assert fixed.code == 0, fixed
    assert fixed.summary["gate"]["passed"] is True
    assert set(values(client).values()) == {10}


def test_the_pass_is_over_what_the_run_works_on(tmp_path: Path, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    shell.write("keys.txt", "Key('Item', 2)\nKey('Item', 5)\n")
    command = ("run", "count.py", "--gate", "clean", "--keys-from", "keys.txt", "--json")
    result = shell.bulkup(*command, env={"FAIL_AT": "1 3 7"})
    assert result.code == 0, result
    assert result.summary["gate"]["counts"]["handled"] == 2
    assert values(client) == {i: int(i in (2, 5)) for i in range(1, COUNT + 1)}


def test_each_pass_until_clean_has_a_gate_of_its_own(tmp_path: Path, embedded: Server) -> None:
    client = seed(embedded, COUNT)
    shell = project(tmp_path, embedded)
    idempotent = UPDATER.replace("seen = 0", "seen = 0\n        idempotent = True")
    shell.write("count.py", idempotent.replace('["n"] += 1', '["n"] = 1'))
    result = shell.bulkup("run", "count.py", "--gate", "clean", "--until-clean", "--json")
    assert result.code == 0, result
    passes = result.of_type("summary")
    assert len(passes) == 2
    assert [one["gate"]["passed"] for one in passes] == [True, True]
    assert [one["gate"]["counts"]["written"] for one in passes] == [COUNT, 0]
    assert set(values(client).values()) == {1}


@pytest.fixture
def steps(tmp_path: Path, embedded: Server) -> Shell:
    shell = Shell(tmp_path, embedded)
    for number, mark in enumerate("abc", 1):
        write_step(shell, f"{number:04d}_{mark}", mark)
    return shell


def test_each_migration_has_a_dry_pass_when_its_turn_comes(steps: Shell, embedded: Server) -> None:
    client = seed(embedded, 12)
    result = steps.bulkup("migrate", "--gate", "clean", "--json", env={"FAIL_AT": "b"})
    assert result.code == Exit.FAILED, result
    keeps_the_contract(result.lines)
    (ended,) = result.of_type("migrate")
    assert (ended["applied"], ended["stopped_at"]) == (["0001_a"], "0002_b")
    assert "in the dry pass of --gate clean, so nothing was written" in ended["reason"]
    assert "--gate clean" in ended["next_steps"][0]
    assert trails(client) == {"a"}
    rows = steps.bulkup("status", "--json").of_type("migration")
    assert [row["standing"] for row in rows] == ["applied", "pending", "pending"]
    assert not (steps.folder / "report.txt").exists()
    result = steps.bulkup("migrate", "--gate", "clean", "--json")
    assert result.code == 0
    assert len(result.of_type("gate")) == 2
    assert trails(client) == {"abc"}


def test_a_migration_that_began_without_a_gate_is_refused_with_one(
    steps: Shell, embedded: Server
) -> None:
    client = seed(embedded, 12)
    small = ("migrate", "--batch-size", "2")
    assert steps.bulkup(*small, env={"FAIL_AT": "a"}).code == Exit.FAILED
    refused = steps.bulkup(*small, "--gate", "clean")
    assert refused.code == Exit.USAGE
    assert "0001_a was started without --gate clean" in refused.err
    assert "`bulkup mark 0001_a --pending`" in refused.err
    assert steps.bulkup(*small).code == 0
    assert trails(client) == {"abc"}


@pytest.fixture
def tenants(tmp_path: Path, embedded: Server) -> Tenants:
    return make_tenants(tmp_path, embedded)


GATED = ("run", "bump.py", "--all-namespaces", "--gate", "clean", "--batch-size", "2")


def test_in_many_namespaces_the_pass_of_all_comes_before_the_first_write(
    tenants: Tenants,
) -> None:
    before = tenants.contents()
    result = tenants.shell.bulkup(*GATED, env={"FAIL_IN": "tenant-10"})
    assert result.code == Exit.FAILED, result
    assert "Gate closed; nothing was written" in result.out
    assert tenants.contents() == before
    assert tenants.shell.runs() == []
    done = tenants.shell.bulkup(*GATED, "--json")
    assert done.code == 0, done
    keeps_the_contract(done.lines)
    (gate,) = done.of_type("gate")
    assert gate["counts"]["written"] == 24
    (group,) = done.of_type("group")
    assert group["gate"]["passed"] is True
    tenants.assert_each_done()


@pytest.mark.parametrize("again", ["same", "resume", "without"])
def test_a_group_that_was_stopped_continues_with_its_gate(tenants: Tenants, again: str) -> None:
    """A namespace that had no turn has a pass of its own, whichever command continues."""
    stopped = tenants.shell.bulkup(*GATED, "--limit", "8")
    assert stopped.code == Exit.LIMIT, stopped
    (group_id,) = {run.partition("@")[0] for run in tenants.shell.runs()}
    command = {"same": GATED, "resume": ("resume", group_id), "without": GATED[:3]}[again]
    seen = tenants.values()
    closed = tenants.shell.bulkup(*command, env={"FAIL_IN": "tenant-10"})
    assert closed.code == Exit.FAILED, closed
    assert "in the dry pass of --gate clean, so nothing was written" in closed.out
    assert tenants.values("tenant-10") == {"tenant-10": seen["tenant-10"]} == {"tenant-10": {0}}
    assert tenants.shell.bulkup(*command).code == 0
    tenants.assert_each_done()


def test_a_group_that_began_without_a_gate_is_refused_with_one(tenants: Tenants) -> None:
    assert tenants.shell.bulkup(*GATED[:3], "--limit", "8").code == Exit.LIMIT
    tenants.shell.bulkup(*GATED).fails(Exit.USAGE, "was started without --gate clean", "--new")
    assert tenants.shell.bulkup(*GATED[:3]).code == 0
    tenants.assert_each_done()


def test_a_program_asks_for_a_gate(
    tmp_path: Path, embedded: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    client = seed(embedded, COUNT)
    failing = [3]
    events: list[Event] = []

    @bulkup.updater(kind="Item")
    def count(entity: datastore.Entity) -> datastore.Entity:
        if entity.key.id in failing:
            raise ValueError("not today")
        entity["n"] += 1
        return entity

    def run(gate: str = "clean", **options: bool) -> bulkup.Report:
        return bulkup.run(count, project=embedded.project, state_dir=tmp_path / "state",
                          gate=gate, listener=events.append, **options)  # fmt: skip

    closed = run()
    assert closed.gate is not None
    assert (closed.gate.passed, closed.success, closed.exit_code) == (False, False, Exit.FAILED)
    assert [type(e) for e in events if isinstance(e, (RunStarted, RunEnded))] == [
        RunStarted, RunEnded,
    ]  # fmt: skip
    assert set(values(client).values()) == {0}
    failing.clear()
    events.clear()
    report = run()
    assert report.gate is not None
    assert (report.gate.passed, report.success) == (True, True)
    kept = (RunStarted, GatePassed, RunEnded)
    assert [type(e) for e in events if isinstance(e, kept)] == [
        RunStarted, GatePassed, RunStarted, RunEnded,
    ]  # fmt: skip
    for wrong in ({"gate": "dirty"}, {"dry_run": True}):
        with pytest.raises(bulkup.BulkupError, match="gate"):
            run(**wrong)  # type: ignore[arg-type]
