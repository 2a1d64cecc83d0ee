"""`bulkup verify`, and `bulkup run --verify`, as a user at a shell meets them."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from google.cloud import datastore

from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import Shell, entity, put, seed
from tests.conftest import Server

DOUBLE = """
    import bulkup

    @bulkup.updater(kind="Item", filters=[("n", ">=", 0)])
    def filtered(item):
        item["twice"] = 2
        return item

    @bulkup.updater(kind="Item")
    def double(item, *, by: int = 2):
        item["twice"] = by * item["n"]
        return item
"""


def until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never became true")


pytestmark = [pytest.mark.sampled(5), pytest.mark.client_side]


@pytest.fixture
def items(shell: Shell, server: Server) -> datastore.Client:
    """12 items, of which 3 and 8 are not done."""
    shell.write("double.py", DOUBLE)
    client = server.client()
    put(
        client,
        [
            entity(client, "Item", i, n=i, twice=2 * i if i not in (3, 8) else 1)
            for i in range(1, 13)
        ],
    )
    return client


def test_it_names_what_is_not_done_and_exits_with_4(shell: Shell, items: datastore.Client) -> None:
    result = shell.bulkup("verify", "double.py:double")
    assert result.code == 4, result
    assert "Not clean: 2 of 12 entities are not done" in result.out
    assert (
        "The verification wrote nothing, neither in Datastore nor in the run state." in result.out
    )
    assert "not done: a second handling would change twice" in result.out
    assert "Key('Item', 3), Key('Item', 8)" in result.out
    assert "Not done: Key('Item', 3): a second handling would change twice" in result.err
    assert "Verifying double on" in result.err
    assert not shell.state_dir.exists()
    assert shell.bulkup("verify", "double.py:double", "-p", "by=3").code == 4
    fixed = [items.get(items.key("Item", i)) for i in (3, 8)]
    for one in fixed:
        one["twice"] = 2 * one["n"]
    put(items, fixed)
    clean = shell.bulkup("verify", "double.py:double")
    assert clean.code == 0, clean
    assert "Verified: 12 entities, all done" in clean.out
    assert "filters" not in clean.out
    filtered = shell.bulkup("verify", "double.py:filtered", "-q")
    assert "an entity that no longer matches them is not read" in filtered.out


def test_json_has_each_finding_and_a_summary(shell: Shell, items: datastore.Client) -> None:
    result = shell.bulkup("verify", "double.py:double", "--json", "--out", "left.jsonl")
    assert result.code == 4, result
    keeps_the_contract(result.lines)
    found = result.of_type("finding")
    assert sorted(line["typed_key"]["path"] for line in found) == [[["Item", 3]], [["Item", 8]]]
    assert {(line["step"], line["young"]) for line in found} == {("verify", False)}
    assert sorted(line["found"] for line in found) == [1, 2]
    (start,) = result.of_type("start")
    assert (start["verifies"], start["dry_run"], start["run_id"]) == (True, True, "")
    summary = result.summary
    assert (summary["exit_code"], summary["state"], summary["success"]) == (4, "finished", True)
    assert (summary["counts"]["handled"], summary["counts"]["failed"]) == (12, 2)
    assert summary["verification"]["out"] == "left.jsonl"
    assert summary["failure_groups"][0]["count"] == 2
    lines = [json.loads(line) for line in (shell.folder / "left.jsonl").read_text().splitlines()]
    assert sorted(line["key"] for line in lines) == ["Key('Item', 3)", "Key('Item', 8)"]
    (proposed,) = summary["next_steps"]
    assert proposed == "bulkup run double.py:double --keys-from left.jsonl"
    fixed = shell.bulkup(*proposed.split()[1:])
    assert fixed.code == 0, fixed
    assert "Finished: 2 entities handled, 2 written" in fixed.out
    clean = shell.bulkup("verify", "double.py:double", "--out", "left.jsonl")
    assert clean.code == 0
    assert (shell.folder / "left.jsonl").read_bytes() == b""


def test_a_killed_verification_continues_from_its_file(shell: Shell, server: Server) -> None:
    shell.write("double.py", DOUBLE)
    client = server.client()
    put(
        client,
        [entity(client, "Item", i, n=i, twice=2 * i if i % 50 else 0) for i in range(1, 201)],
    )
    words = ("verify", "double.py:double", "--out", "left.jsonl", "--json")
    out = shell.folder / "left.jsonl"
    process = shell.begin(*words, "--max-rate", "40")
    until(lambda: out.exists() and b'"verified"' in out.read_bytes())
    process.kill()
    process.communicate(timeout=60)
    result = shell.bulkup(*words)
    assert result.code == 4, result
    (start,) = result.of_type("start")
    assert start["resumed"]
    assert 0 < start["already"]["handled"] < 200
    assert result.summary["counts"]["handled"] == 200
    assert result.summary["counts"]["failed"] == 4
    keys = [json.loads(line)["typed_key"]["path"][0][1] for line in out.read_text().splitlines()]
    assert sorted(keys) == [50, 100, 150, 200]


def test_ctrl_c_stops_it_and_the_report_says_how_to_continue(shell: Shell, server: Server) -> None:
    shell.write("double.py", DOUBLE)
    seed(server, 200)
    words = ("verify", "double.py:double", "--out", "left.jsonl", "--max-rate", "40")
    process = shell.begin(*words)
    out = shell.folder / "left.jsonl"
    until(lambda: out.exists() and b'"verified"' in out.read_bytes())
    process.send_signal(signal.SIGINT)
    text, err = process.communicate(timeout=60)
    assert process.returncode == 130, (text, err)
    assert "Verification interrupted: " in text
    assert "The same command continues from left.jsonl." in text
    assert "Traceback" not in err


def test_a_run_verifies_itself_at_its_end(shell: Shell, items: datastore.Client) -> None:
    done = shell.bulkup("run", "double.py:double", "--verify", "--json")
    assert done.code == 0, done
    keeps_the_contract(done.lines)
    run, verified = done.of_type("summary")
    assert (run["counts"]["handled"], verified["counts"]["handled"]) == (12, 12)
    assert "verification" not in run
    assert verified["verification"]["by_is_done"] is False
    # It counts up each time, and has no is_done.
    counts_up = shell.bulkup("run", "bump.py", "--verify")
    assert counts_up.code == 4
    assert "Finished: 12 entities handled, 12 written" in counts_up.out
    assert "Not clean: 12 of 12 entities are not done" in counts_up.out
    assert "this measure does not suit it: give it is_done" in counts_up.out
    assert len(shell.runs()) == 2
    assert items.get(items.key("Item", 1))["n"] == 2


def test_a_run_with_an_is_done_that_cannot_be_asked_does_not_begin(
    shell: Shell, items: datastore.Client
) -> None:
    shell.write(
        "flag.py",
        """
        import bulkup

        class Flag(bulkup.BulkPut):
            is_done = False

            def get_query(self):
                return self.client.query(kind="Item")
        """,
    )
    shell.bulkup("run", "flag.py", "--verify").fails(2, "is_done of Flag is False")
    assert not shell.runs()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("verify nope.py", 10, "nope.py"),
        ("verify double.py:double --out .", 2, "is a directory"),
        ("verify double.py:double --out no/such/file", 2, "cannot write to no/such/file"),
        (
            "verify double.py:double --out double.py",
            2,
            "double.py is not a file of `bulkup verify`",
        ),
        ("verify double.py:double --out link", 2, "cannot write to link"),
        ("verify double.py:double --processes 2", 2, "No such option"),
        ("verify double.py:double --limit 0", 2, "--limit"),
        ("verify double.py:double -p by=x", 2, "by"),
        ("run double.py:double -n --verify", 2, "a dry run writes nothing that could be verified"),
        ("run double.py:double --verify --all-namespaces", 2, "cannot be used with several"),
    ],
)
def test_bad_input_is_one_sentence(
    shell: Shell, items: datastore.Client, words: str, code: int, says: str
) -> None:
    (shell.folder / "link").symlink_to("elsewhere")
    source = (shell.folder / "double.py").read_bytes()
    result = shell.bulkup(*words.split())
    assert (result.code, result.out) == (code, ""), result
    assert says in result.err
    assert "Traceback" not in result.err
    assert (shell.folder / "double.py").read_bytes() == source
    assert not (shell.folder / "elsewhere").exists()
    assert not shell.runs()


def test_what_an_entity_holds_cannot_harm_the_terminal(shell: Shell, server: Server) -> None:
    client = server.client()
    put(client, [entity(client, "Item", "a\x1b[2J\n", n=1)])
    shell.write(
        "hostile.py",
        """
        import bulkup

        @bulkup.updater(kind="Item")
        def hostile(item):
            item["x\\x1b[31m\\n"] = 1
            return item
        """,
    )
    result = shell.bulkup("verify", "hostile.py")
    assert result.code == 4
    assert "\x1b" not in result.out + result.err
    assert "would change x\\x1b[31m\\n" in result.out


def test_a_file_is_verified_beside_the_process_that_serves_it_and_stays_as_it_is(
    nowhere: Shell,
) -> None:
    nowhere.write("double.py", DOUBLE)
    nowhere.write("items.jsonl", '{"n": 1, "twice": 2}\n{"n": 2, "twice": 1}\n')
    loaded = nowhere.bulkup("local", "load", "items.db", "items.jsonl", "--kind", "Item")
    assert loaded.code == 0, loaded
    path: Path = nowhere.folder / "items.db"
    before = path.read_bytes()
    alone = nowhere.bulkup("verify", "double.py:double", "--local", "items.db")
    assert alone.code == 4, alone
    assert path.read_bytes() == before
    server = nowhere.begin("local", "serve", "items.db")
    assert server.stdout is not None
    assert server.stdout.readline()
    beside = nowhere.bulkup("verify", "double.py:double", "--local", "items.db")
    server.terminate()
    server.communicate(timeout=60)
    assert beside.code == 4, beside
    assert "Not clean: 1 of 2 entities is not done" in beside.out
