"""`bulkup run --keys-from FILE`: a list of keys in place of the query."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given

from bulkup.core.model import TargetInfo
from bulkup.core.typed_key import typed_key
from bulkup.datastore.keys import key_of, key_text
from bulkup.datastore.messages import QueryPb
from bulkup.engine.scan import QueryPlan
from bulkup.report.text import clean
from bulkup.runs.key_input import KeyCheck
from bulkup.state.key_list import KEYS_NAME
from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Shell, contents, entity, markers, put, seed, values
from tests.conftest import Server
from tests.state.test_key_list import PATHS, key

pytestmark = pytest.mark.sampled(9)

FILTERED = """
    import bulkup

    @bulkup.updater(kind="Item", filters=[("n", ">", 5)])
    def filtered(entity):
        entity["n"] += 1
        return entity
"""


@pytest.fixture
def shell(tmp_path: Path, server: Server) -> Shell:
    shell = Shell(tmp_path, server)
    shell.write("bump.py", BUMP)
    return shell


def test_it_handles_what_the_file_names_and_nothing_else(shell: Shell, server: Server) -> None:
    client = seed(server, 20)
    shell.write(
        "keys.txt", "Key('Item', 7)\n\n  Key('Item', 3)  \nKey('Item', 7)\nKey('Item', 99)\n"
    )
    dry = shell.bulkup("run", "-n", "bump.py", "--keys-from", "keys.txt", "--json")
    assert (dry.code, len(dry.of_type("change"))) == (0, 2)
    assert set(values(client).values()) == {0}
    assert not shell.state_dir.exists()
    ran = shell.bulkup("run", "bump.py", "--keys-from", "keys.txt", "--json")
    assert ran.code == 0, ran
    keeps_the_contract(ran.lines)
    counts = ran.summary["counts"]
    assert (counts["handled"], counts["written"], counts["vanished"]) == (3, 2, 1)
    assert ran.summary["total"] == 3
    assert {id_ for id_, n in values(client).items() if n} == {3, 7}
    assert markers(server) == []


@pytest.mark.client_side
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("form", ["text", "lines", "array"])
def test_what_show_prints_is_read_again(
    shell: Shell, server: Server, form: str, processes: int
) -> None:
    client = seed(server, 30)
    odd = [
        entity(client, "Item", name, n=0)
        for name in ("a b", "it's", 'say "no"', "\u202eabc", "new\nline", "\\", "é", "5", "[", "{")
    ]
    child = entity(client, "Home", "x", "Item", 5, n=0)
    put(client, [*odd, child])
    shell.write(
        "failing.py",
        BUMP + "        if entity.key.id is None or entity.key.id % 3 == 0 or entity.key.parent:\n"
        "            raise ValueError('no')\n",
    )
    assert shell.bulkup("run", "failing.py", "--max-failures", "-1").code == 3
    shown = shell.bulkup("show", "--failed-keys", *(["--json"] if form != "text" else []))
    text = shown.out
    if form == "array":
        text = json.dumps([json.loads(line) for line in text.splitlines()], indent=1)
    shell.write("keys.txt", "").write_text(text)
    before = values(client)
    ran = shell.bulkup(
        "run", "bump.py", "--keys-from", "keys.txt", "--processes", processes, "--json"
    )
    assert ran.code == 0, ran
    assert ran.summary["counts"]["written"] == 21 == ran.summary["counts"]["handled"]
    changed = {id_ for id_, n in values(client).items() if n != before[id_]}
    assert changed >= {one.key.name for one in odd} | {3, 6, 30}
    assert client.get(child.key)["n"] == 1


TARGET = TargetInfo("p")
ANY = QueryPlan(QueryPb(), "", False, False, frozenset())


@given(PATHS)
def test_generated_keys_are_read_as_they_are_printed(path: list[tuple[str, int | str]]) -> None:
    path = [(f"K{kind}", ident) for kind, ident in path]
    text = key_text(key_of(key(*path)))
    check = KeyCheck(ANY, TARGET)
    line = clean(text, len(text))
    assert check.key(line.strip()) == key(*path)
    assert check.key({"key": text, "typed_key": typed_key(text)}) == key(*path)
    assert check.key(typed_key(text)) == key(*path)


BAD = [
    ("Key('Item', 1)\nKey(Item, 2)\n", "line 2", "is not a key"),
    ("5\n", "line 1", "is not a key"),
    ("Key('Item')\n", "line 1", "is incomplete"),
    ("Key('Item', 0)\n", "line 1", "Must not be zero"),
    ("Key('Item', 1, namespace='x')\n", "line 1", "is of namespace 'x'"),
    ("Key('Other', 1)\n", "line 1", "is not of the kind that the updater's query names (Item)"),
    ("Key('BulkupRun', 'a')\n", "line 1", "is of a kind of bulkup's own"),
    ('\n\n{"type": "verify"}\n', "line 3", "a line of the type 'verify' that names no entity"),
    ('{"typed_key": {"path": [["Item", true]]}}\n', "line 1", "is not a key"),
    ('{"typed_key": {"path": [["Item", 99999999999999999999]]}}\n', "line 1", "is not a key"),
    ('{"typed_key": {"path": ["Item", 5]}}\n', "line 1", "is not a key"),
    ('{"typed_key": \n', "line 1", "not valid JSON"),
    ("[\"Key('Item', 1)\", 7]", "item 2 of the array", "is not a key"),
    ("[\"Key('Item', 1)\"", "line 1", "not valid JSON"),
    (f"Key('Item', '{'x' * 1501}')\n", "line 1", "longer than 1500 bytes"),
    ("\n", "has no keys", ""),
]


@pytest.mark.client_side
@pytest.mark.parametrize(("text", "where", "what"), BAD, ids=range(len(BAD)))
def test_a_bad_line_is_named_and_nothing_is_started(
    shell: Shell, server: Server, text: str, where: str, what: str
) -> None:
    seed(server, 3)
    before = contents(server)
    shell.write("keys.txt", "").write_text(text)
    shell.bulkup("run", "bump.py", "--keys-from", "keys.txt").fails(2, "keys.txt", where, what)
    assert contents(server) == before
    assert not shell.state_dir.exists()


@pytest.mark.client_side
def test_a_file_that_cannot_be_read_is_named(shell: Shell, server: Server) -> None:
    seed(server, 3)
    shell.bulkup("run", "bump.py", "--keys-from", "none.txt").fails(
        2, "cannot read keys from 'none.txt' (No such file or directory)"
    )
    shell.bulkup("run", "bump.py", "--keys-from", ".").fails(2, "Is a directory")
    (shell.folder / "latin.txt").write_bytes("Key('Item', 'é')".encode("latin-1"))
    shell.bulkup("run", "bump.py", "--keys-from", "latin.txt").fails(2, "is not text in UTF-8")


@pytest.mark.client_side
def test_a_file_that_never_ends_is_given_up(shell: Shell, server: Server) -> None:
    seed(server, 3)
    shell.bulkup("run", "bump.py", "--keys-from", "/dev/zero").fails(2, "longer than a key can be")


@pytest.mark.client_side
def test_entities_that_are_read_by_key_are_counted(shell: Shell, server: Server) -> None:
    seed(server, 300)
    shell.write("keys.txt", "".join(f"Key('Item', {n})\n" for n in range(1, 301)))
    ran = shell.bulkup("run", "bump.py", "--keys-from", "keys.txt", "--json")
    operations = ran.summary["operations"]
    assert operations["predicted"]["reads"] == 300
    assert 300 <= operations["counted"]["reads"] <= 360  # and the run's own


@pytest.mark.client_side
def test_the_dry_pass_of_a_gate_is_of_the_list(shell: Shell, server: Server) -> None:
    client = seed(server, 20)
    shell.write("keys.txt", "Key('Item', 7)\n")
    ran = shell.bulkup("run", "bump.py", "--keys-from", "keys.txt", "--gate", "clean", "--json")
    assert ran.code == 0, ran
    assert ran.summary["gate"]["counts"]["handled"] == 1
    assert values(client)[7] == 1


@pytest.mark.client_side
def test_standard_input_that_is_closed_is_said(shell: Shell, server: Server) -> None:
    seed(server, 3)
    command = f"{sys.executable} -m bulkup run bump.py --keys-from - <&-"
    process = subprocess.run(
        ["bash", "-c", command], cwd=shell.folder, env=shell.environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 2, process
    assert "cannot read keys from standard input (it is closed)" in process.stderr


@pytest.mark.client_side
def test_standard_input_is_read_with_a_dash(shell: Shell, server: Server) -> None:
    client = seed(server, 5)
    process = subprocess.run(
        [sys.executable, "-m", "bulkup", "run", "bump.py", "--keys-from", "-", "--json"],
        input="Key('Item', 2)\n",
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process
    assert values(client) == {1: 0, 2: 1, 3: 0, 4: 0, 5: 0}


@pytest.mark.client_side
def test_the_querys_filters_do_not_matter(shell: Shell, server: Server) -> None:
    client = seed(server, 5)
    shell.write("filtered.py", FILTERED)
    shell.write("keys.txt", "Key('Item', 2)\n")
    ran = shell.bulkup("run", "filtered.py", "--keys-from", "keys.txt")
    assert ran.code == 0, ran
    assert values(client)[2] == 1


@pytest.mark.client_side
def test_keys_of_another_namespace_need_a_run_of_their_own(shell: Shell, server: Server) -> None:
    client = seed(server, 3, namespace="x")
    shell.write("keys.txt", "Key('Item', 2, namespace='x')\n")
    shell.bulkup("run", "bump.py", "--keys-from", "keys.txt").fails(2, "is for (default)")
    ran = shell.bulkup("run", "bump.py", "--keys-from", "keys.txt", "--namespace", "x")
    assert ran.code == 0, ran
    assert values(client) == {1: 0, 2: 1, 3: 0}
    for option in ("--all-namespaces", "--namespaces=x"):
        several = shell.bulkup("run", "bump.py", "--keys-from", "keys.txt", option)
        assert several.code == 2
        assert "a list of keys is for one namespace" in several.err


@pytest.mark.client_side
def test_a_list_of_which_nothing_is_there_is_said(shell: Shell, server: Server) -> None:
    seed(server, 3)
    shell.write("keys.txt", "Key('Item', 20)\nKey('Item', 21)\n")
    ran = shell.bulkup("run", "bump.py", "--keys-from", "keys.txt", "--json")
    assert ran.code == 0
    assert ran.summary["counts"]["vanished"] == 2
    (warning,) = ran.of_type("warning")
    assert warning["kind"] == "empty_query"
    assert "none of the keys has an entity" in warning["message"]


def stopped(shell: Shell, *more: object) -> str:
    stopped = shell.bulkup(
        "run", "bump.py", "--keys-from", "keys.txt", "--limit", 4, "--batch-size", 2, *more
    )
    assert stopped.code == 75, stopped
    return shell.runs()[-1]


def write_keys(shell: Shell, count: int) -> None:
    shell.write("keys.txt", "".join(f"Key('Item', {i})\n" for i in range(1, count + 1)))


def test_a_stopped_run_is_resumed_without_the_file(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    write_keys(shell, 10)
    run = stopped(shell)
    (shell.folder / "keys.txt").unlink()
    resumed = shell.bulkup("resume", run)
    assert resumed.code == 0, resumed
    assert values(client) == {i: int(i <= 10) for i in range(1, 13)}


def test_with_its_folder_lost_it_needs_the_same_keys(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    write_keys(shell, 10)
    run = stopped(shell)
    shell.state_dir.rename(shell.folder / "lost")
    text = (shell.folder / "keys.txt").read_text()
    shell.write("other.txt", "").write_text("Key('Item', 11)\n")
    other = shell.bulkup("run", "bump.py", "--keys-from", "other.txt")
    assert f"run {run} of Bump is unfinished, with another list of keys" in other.err
    lines = text.splitlines(keepends=True)
    shell.write("again.txt", "").write_text("".join(lines[::-1]))
    again = shell.bulkup("run", "bump.py", "--keys-from", "again.txt", "--json")
    assert again.code == 0, again
    assert again.summary["run_id"] == run
    assert again.summary["counts"]["handled"] == 10
    assert values(client) == {i: int(i <= 11) for i in range(1, 13)}


@pytest.mark.client_side
def test_with_its_list_lost_resuming_says_what_to_type(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    write_keys(shell, 10)
    run = stopped(shell)
    (shell.state_dir / run / KEYS_NAME).unlink()
    shell.bulkup("resume", run).fails(1, "the list of keys of run", "--keys-from FILE")
    again = shell.bulkup("run", "bump.py", "--keys-from", "keys.txt")
    assert again.code == 0, again
    assert values(client) == {i: int(i <= 10) for i in range(1, 13)}


@pytest.mark.client_side
def test_ctrl_c_stops_it_and_resume_continues(shell: Shell, server: Server) -> None:
    client = seed(server, 12)
    write_keys(shell, 10)
    shell.write(
        "slow.py",
        BUMP.replace("class Bump", "import os, signal\n\nclass Bump")
        + "        if entity.key.id == 5: os.kill(os.getpid(), signal.SIGINT)\n",
    )
    first = shell.bulkup("run", "slow.py", "--keys-from", "keys.txt", "--batch-size", 2)
    assert first.code == 128 + signal.SIGINT
    resumed = shell.bulkup("resume")
    assert resumed.code == 0, resumed
    assert values(client) == {i: int(i <= 10) for i in range(1, 13)}


@pytest.mark.client_side
def test_no_successor_begins_after_a_list_of_keys(shell: Shell, server: Server) -> None:
    client = seed(server, 4)
    shell.write(
        "chain.py",
        BUMP
        + """
class Second(Bump):
    pass

class First(Bump):
    then = Second
""",
    )
    shell.write("keys.txt", "Key('Item', 2)\n")
    ran = shell.bulkup("run", "chain.py:First", "--keys-from", "keys.txt")
    assert ran.code == 0, ran
    assert "the successor of First does not begin after a run on a list of keys" in ran.err
    assert values(client) == {1: 0, 2: 1, 3: 0, 4: 0}
