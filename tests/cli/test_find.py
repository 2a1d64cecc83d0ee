"""`bulkup count` and `bulkup find`."""

from __future__ import annotations

import json
import signal
from datetime import datetime, timezone
from shlex import quote

import pytest
from google.cloud.datastore import Entity

from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Shell, contents, entity, put, seed, values
from tests.conftest import Server

pytestmark = [pytest.mark.sampled(5), pytest.mark.client_side]


def test_count_prints_a_number(shell: Shell, server: Server) -> None:
    client = server.client()
    put(client, (entity(client, "Item", i, n=i) for i in range(1, 13)))
    shell.write("bump.py", BUMP + "\nprint('loaded')\n")
    for words, count in (
        (["--kind", "Item", "--where", "n > 4"], 8),
        (["bump.py", "--where", "n <= 4"], 4),
        (["--kind", "Item", "--where", "n > 99"], 0),
        ([], 12),
    ):
        result = shell.bulkup("count", *words)
        assert (result.code, result.out) == (0, f"{count}\n"), (words, result)
        assert f" on project {server.project}" in result.err
    line = shell.bulkup("count", "bump.py", "--where", "n<4", "--json")
    keeps_the_contract(line.lines)
    (found,) = line.of_type("count")
    assert (found["count"], found["query"]) == (3, "SELECT * FROM Item WHERE n < 4")


def test_find_prints_what_local_load_takes(shell: Shell, server: Server) -> None:
    client = server.client()
    one = Entity(client.key("Item", "é\u202e", "Part", 7), exclude_from_indexes=("text",))
    one.update(text="\x1b[31m\u202e", at=datetime(2026, 1, 2, tzinfo=timezone.utc), tags=[1, "b"])
    put(client, [one])
    found = shell.bulkup("find", "--kind", "Part")
    assert found.code == 0, found
    assert found.out.rstrip("\n").isprintable()
    shell.write("found.jsonl", found.out)
    assert shell.bulkup("local", "load", "copy.db", "found.jsonl").code == 0
    again = shell.bulkup("local", "dump", "copy.db", "--lossless")
    of_file = json.loads(again.out)["key"]["partitionId"]["projectId"]
    assert again.out == found.out.replace(server.project, of_file)
    lines = shell.bulkup("find", "--kind", "Part", "--json")
    keeps_the_contract(lines.lines)
    (line,) = lines.of_type("entity")
    assert line["typed_key"]["path"] == [["Item", "é\u202e"], ["Part", 7]]
    assert line["entity"] == json.loads(found.out)


def test_a_run_takes_what_find_prints(shell: Shell, server: Server) -> None:
    client = server.client()
    put(client, (entity(client, "Item", i, n=i) for i in range(1, 9)))
    shell.write("bump.py", BUMP)
    found = ""
    shell.write(
        "keys_only.py",
        """
        import bulkup

        @bulkup.updater(kind="Item", keys_only=True, filters=[("n", "=", 8)])
        def remove(entity):
            return bulkup.delete(entity)
        """,
    )
    whole = shell.bulkup("find", "keys_only.py")
    assert json.loads(whole.out)["properties"] == {"n": {"integerValue": "8"}}
    for n, form in ((3, ["--keys"]), (4, ["--keys", "--json"]), (5, ["--json"]), (6, [])):
        found += shell.bulkup("find", "bump.py", "--where", f"n = {n}", *form).out
    assert len(found.splitlines()) == 4
    shell.write("keys.txt", found)
    result = shell.bulkup("run", "bump.py", "--keys-from", "keys.txt", "--json")
    assert result.summary["counts"]["written"] == 4
    assert values(client) == {i: i + (3 <= i <= 6) for i in range(1, 9)}


def test_reading_commands_write_nothing(shell: Shell, server: Server) -> None:
    seed(server, 3)
    shell.write("bump.py", BUMP)
    before, files = contents(server), set(shell.folder.rglob("*"))
    for words in (["count", "bump.py"], ["find", "bump.py"], ["find", "--kind", "Item", "--keys"]):
        assert shell.bulkup(*words).code == 0
    assert contents(server) == before
    new = {path for path in shell.folder.rglob("*") if "__pycache__" not in path.parts}
    assert new <= files


def test_the_reader_may_leave(shell: Shell, server: Server) -> None:
    seed(server, 400)
    for form in (["--keys"], ["--json"]):
        process = shell.begin("find", "--kind", "Item", *form)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        with process.stderr as stderr:
            told = stderr.read()
        assert process.wait(300) in (0, 1)
        assert told.count("\n") <= 1, told  # the query, and nothing else
    # Nobody reads, so it waits with a full pipe.
    process = shell.begin("find", "--kind", "Item")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130
    assert told.endswith("Error: Interrupted; the result is not complete.\n")


def test_mistakes_are_one_sentence(shell: Shell, server: Server) -> None:
    seed(server, 1)
    shell.bulkup("count", "--kind", "Item", "--where", "n >").fails(2, "at its end: expected a")
    shell.bulkup("find", "--kind", "Item", "--ancestor", "5").fails(2, "the ancestor is not")
    shell.bulkup("find", "nothing.py").fails(10, "nothing.py")
    for command in ("count", "find"):
        result = shell.bulkup(command, "--kind", "Items")
        assert result.code == 0
        assert result.out in ("", "0\n")
        if server.name != "FS":  # which does not list its kinds
            assert "Warning: There is no entity of kind Items" in result.err
            assert "did you mean Item?" in result.err
    wrong = shell.bulkup("count", "-p", "a=b")
    assert wrong.code == 2
    assert "name the updater, too" in wrong.err


@pytest.mark.parametrize("kind", ["Loan", "Loan Item", "calendar"])
def test_a_kind_that_is_typed_as_an_updater_gets_the_option(nowhere: Shell, kind: str) -> None:
    for command in ("find", "count"):
        nowhere.bulkup(command, kind, "--local", "x.db").fails(10, f"write --kind {quote(kind)}")
