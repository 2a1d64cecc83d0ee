"""`bulkup run --until-clean`: passes until one has nothing to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Shell, entity, markers, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)

CEILING = """
    from bulkup import Updater

    class AtLeast(Updater):
        '''Raise n to 10.'''
        idempotent = True
        BEHIND

        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            self.write_behind(entity.key.id)
            if entity["n"] < 10:
                entity["n"] = 10
                self.put(entity)

        def write_behind(self, id):
            done = pathlib.Path(f"written-behind-{id}")
            for other, n in self.behind.get(id, {}).items() if not done.exists() else ():
                made = datastore.Entity(self.client.key("Item", other))
                made["n"] = n
                LIVE.put(made)
                done.touch()

    import pathlib
    from google.cloud import datastore
    LIVE = datastore.Client()
"""
"""While it first handles some ids, a live user writes entities that the scan has passed already."""


@pytest.fixture
def shell(tmp_path: Path, server: Server) -> Shell:
    return Shell(tmp_path, server)


def write(shell: Shell, behind: dict[int, dict[int, int]]) -> None:
    shell.write("ceiling.py", CEILING.replace("BEHIND", f"behind = {behind!r}"))


def test_passes_follow_until_one_writes_nothing(shell: Shell, server: Server) -> None:
    client = seed(server, 20)
    write(shell, {15: {2: 3, 1: 4, -7: 0}})
    ran = shell.bulkup("run", "ceiling.py", "--until-clean", "--batch-size", 3, "--json")
    assert ran.code == 0, ran
    keeps_the_contract(ran.lines)
    summaries = ran.of_type("summary")
    assert [one["passes"] for one in summaries] == [[20], [20, 3], [20, 3, 0]]
    assert set(values(client).values()) == {10}
    assert markers(server) == []
    run = shell.runs()[0]
    assert shell.runs() == [run, f"{run}+1", f"{run}+2"]
    shown = shell.bulkup("show", f"{run}+2").out
    assert "3 of --until-clean (the passes wrote 20, 3, 0)" in shown


def test_a_pass_leaves_out_what_was_not_changed_since_the_one_before(
    shell: Shell, server: Server
) -> None:
    client = seed(server, 20)
    write(shell, {})
    assert shell.bulkup("run", "ceiling.py").code == 0
    low = client.get(client.key("Item", 4))
    low["n"] = 1
    client.put(low)
    ran = shell.bulkup("run", "ceiling.py", "--until-clean", "--json")
    summaries = ran.of_type("summary")
    assert [one["passes"] for one in summaries] == [[1], [1, 0]]
    tells_times = server.name != "LF"
    assert [one["counts"]["handled"] for one in summaries] == [20, 1 if tells_times else 20]
    assert summaries[1]["total"] is None or not tells_times
    assert not ran.of_type("warning") or all(
        warning["kind"] == "done_before" for warning in ran.of_type("warning")
    )


@pytest.mark.client_side
def test_worker_processes_do_the_passes_too(shell: Shell, server: Server) -> None:
    client = seed(server, 20)
    write(shell, {15: {2: 3}})
    ran = shell.bulkup("run", "ceiling.py", "--until-clean", "--processes", 2, "--json")
    assert ran.code == 0, ran
    assert set(values(client).values()) == {10}
    assert ran.of_type("summary")[-1]["passes"][-1] == 0


@pytest.mark.client_side
def test_an_updater_that_does_not_say_that_it_may_repeat_is_refused(
    shell: Shell, server: Server
) -> None:
    client = seed(server, 3)
    shell.write("bump.py", BUMP)
    refused = shell.bulkup("run", "bump.py", "--until-clean")
    refused.fails(2, "Bump does not say that this changes nothing", "idempotent = True")
    assert set(values(client).values()) == {0}
    assert not shell.state_dir.exists()


@pytest.mark.client_side
@pytest.mark.parametrize("processes", [1, 2])
def test_one_that_is_not_idempotent_leaves_alone_what_is_done(
    shell: Shell, server: Server, processes: int
) -> None:
    client = seed(server, 20)
    write(shell, {15: {2: -3}})
    source = (shell.folder / "ceiling.py").read_text()
    source = source.replace("idempotent = True", "def is_done(self, e): return e['n'] > 0")
    source = source.replace('if entity["n"] < 10:', "if True:").replace("= 10", "+= 10")
    (shell.folder / "ceiling.py").write_text(source)
    words = ("--batch-size", 3, "--processes", processes)
    ran = shell.bulkup("run", "ceiling.py", "--until-clean", *words, "--json")
    assert ran.code == 0, ran
    passes = ran.of_type("summary")[-1]["passes"]
    assert passes == [20, 1, 0] or (processes > 1 and passes == [20, 0])  # it was read again
    assert values(client) == {**dict.fromkeys(range(1, 21), 10), 2: 7}


@pytest.mark.client_side
def test_an_is_done_that_raises_is_a_failure_of_the_entity(shell: Shell, server: Server) -> None:
    client = seed(server, 5)
    broken = BUMP + "\n        \n    max_failures = -1\n    def is_done(self, e): return e['no']\n"
    shell.write("broken.py", broken)
    ran = shell.bulkup("run", "broken.py", "--until-clean", "--json")
    last = ran.of_type("summary")[-1]
    assert (ran.code, last["passes"], last["counts"]["failed"]) == (3, [5, 0], 5)
    assert "KeyError: 'no'" in last["failures"][0]["error"]
    assert set(values(client).values()) == {1}


@pytest.mark.client_side
def test_one_that_is_wrongly_said_to_be_idempotent_is_stopped(shell: Shell, server: Server) -> None:
    client = seed(server, 3)
    shell.write("bump.py", BUMP.replace("step:", "idempotent = True\n    step:"))
    ran = shell.bulkup("run", "bump.py", "--until-clean", "--json")
    assert ran.code == 4, ran
    last = ran.of_type("summary")[-1]
    assert (last["passes"], last["exit_code"], last["state"]) == ([3, 3], 4, "finished")
    (warning,) = [w for w in ran.of_type("warning") if w["kind"] == "not_clean"]
    assert "they wrote 3, 3, and each has to write less" in warning["message"]
    assert set(values(client).values()) == {2}


@pytest.mark.client_side
def test_a_stopped_pass_is_resumed_and_the_passes_go_on(shell: Shell, server: Server) -> None:
    client = seed(server, 20)
    write(shell, {15: {2: 3}, 2: {1: 0}})
    words = ("run", "ceiling.py", "--until-clean", "--batch-size", 2)
    assert shell.bulkup(*words, "--limit", 16).code == 75
    resumed = shell.bulkup("resume", "--json")
    assert resumed.code == 0, resumed
    assert resumed.of_type("summary")[-1]["passes"][-1] == 0
    assert set(values(client).values()) == {10}


@pytest.mark.client_side
@pytest.mark.parametrize("lose", [False, True], ids=["here", "with the state lost"])
def test_a_killed_second_pass_is_resumed_by_the_same_command(
    shell: Shell, server: Server, lose: bool
) -> None:
    import shutil

    client = seed(server, 20)
    shell.write(
        "killed.py",
        CEILING.replace("BEHIND", "behind = {15: {2: 3}}").replace(
            "self.write_behind(entity.key.id)",
            "self.write_behind(entity.key.id)\n"
            "            import os, pathlib\n"
            "            if entity['n'] == 3 and not pathlib.Path('killed').exists():\n"
            "                pathlib.Path('killed').touch()\n"
            "                os.kill(os.getpid(), 9)",
        ),
    )
    words = ("run", "killed.py", "--until-clean", "--batch-size", 3)
    assert shell.bulkup(*words).code == -9
    first = shell.runs()[0]
    if lose:
        shutil.rmtree(shell.state_dir)
    again = shell.bulkup(*words, "--json")
    assert again.code == 0, again
    last = again.of_type("summary")[-1]
    assert (last["run_id"], last["passes"]) == (f"{first}+2", [20, 1, 0])
    assert set(values(client).values()) == {10}


@pytest.mark.client_side
def test_the_updaters_own_successor_begins_after_the_last_pass(
    shell: Shell, server: Server
) -> None:
    client = seed(server, 5)
    write(shell, {})
    chain = shell.folder / "ceiling.py"
    chain.write_text(
        chain.read_text()
        + "\nclass Second(AtLeast):\n    pass\n\n"
        + "class First(AtLeast):\n    then = Second\n"
    )
    ran = shell.bulkup("run", "ceiling.py:First", "--until-clean", "--json")
    assert ran.code == 0, ran
    assert [one["updater"] for one in ran.of_type("summary")] == ["First", "First", "Second"]
    assert ran.of_type("summary")[-1]["passes"] == []
    assert set(values(client).values()) == {10}


@pytest.mark.client_side
@pytest.mark.parametrize(
    "words",
    [("-n",), ("--no-record",), ("--keys-from", "keys.txt"), ("--all-namespaces",)],
    ids=lambda words: words[0],
)
def test_what_passes_do_not_go_with(shell: Shell, server: Server, words: tuple[str, ...]) -> None:
    seed(server, 3)
    write(shell, {})
    shell.write("keys.txt", "Key('Item', 1)\n")
    refused = shell.bulkup("run", "ceiling.py", "--until-clean", *words)
    assert refused.code == 2, refused
    assert "cannot be used together" in refused.err
    assert not shell.state_dir.exists()


def test_entities_that_are_born_behind_the_cursor_are_found(shell: Shell, server: Server) -> None:
    client = seed(server, 5)
    put = entity(client, "Item", "last", n=0)
    client.put(put)
    write(shell, {5: {-3: 1, -4: 2}})
    ran = shell.bulkup("run", "ceiling.py", "--until-clean", "--batch-size", 1, "--json")
    assert ran.code == 0, ran
    assert set(values(client).values()) == {10}
    assert values(client).keys() == {-3, -4, 1, 2, 3, 4, 5, "last"}


def test_an_is_done_that_says_nothing_does_not_name_what_the_function_returns(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, 1)
    shell = Shell(tmp_path, embedded)
    shell.write(
        "fix.py",
        """
        import bulkup

        @bulkup.updater(kind="Item", idempotent=True, is_done=lambda item: None)
        def fix(item):
            item["n"] += 1
            return item
        """,
    )
    ran = shell.bulkup("run", "fix.py", "--until-clean", "--json")
    (failure,) = ran.of_type("failure")
    assert failure["error"] == "TypeError: is_done returned None; return True or False"
    assert "return item" not in failure["traceback"]
