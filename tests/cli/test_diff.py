"""`bulkup diff`: times, projects, namespaces and files; output, refusals, and that nothing is
written."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import Result, Shell, contents, entity, put, seed
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)


def now() -> str:
    return datetime.now(timezone.utc).isoformat()


def ended(result: Result) -> dict[str, Any]:
    keeps_the_contract(result.lines)
    (line,) = result.of_type("diff")
    assert line["exit_code"] == result.code
    return line


def reads_the_past(server: Server) -> bool:
    return server.name != "LF"


@pytest.fixture(params=["EM", "FS"])
def historic(request: pytest.FixtureRequest) -> Server:
    """Each of the servers that keep their past."""
    found: Server = request.getfixturevalue({"EM": "embedded", "FS": "fs"}[request.param])
    return found


@pytest.fixture
def past_shell(tmp_path: Path, historic: Server) -> Shell:
    return Shell(tmp_path, historic)


@pytest.fixture
def past(historic: Server) -> str:
    """A moment after which one of 6 entities was changed, one deleted and one created."""
    client = seed(historic, 6, colour="red")
    moment = now()
    changed = client.get(client.key("Item", 2))
    changed["n"] = "many"
    changed.exclude_from_indexes = {"colour"}
    client.put(changed)
    client.delete(client.key("Item", 3))
    put(client, [entity(client, "Item", 7, n=1)])
    return moment


def test_two_times_of_one_place(past_shell: Shell, past: str) -> None:
    result = past_shell.bulkup("diff", "--from", past, "--json")
    assert result.code == 4, result
    line = ended(result)
    assert (line["same"], line["changed"], line["only_a"], line["only_b"]) == (4, 1, 1, 1)
    assert line["a"]["read_time"] is not None
    assert line["b"]["read_time"] is None
    (kind,) = line["kinds"]
    assert {(p["name"], p["a"], p["b"]) for p in kind["by_property"]} == {
        ("n", "integer", "string"),
        ("colour", "string", "string, not indexed"),
    }
    changed, gone, new = result.of_type("difference")
    assert [one["change"] for one in (changed, gone, new)] == ["changed", "only_a", "only_b"]
    assert [one["typed_key"]["path"] for one in (changed, gone, new)] == [
        [["Item", 2]], [["Item", 3]], [["Item", 7]],
    ]  # fmt: skip
    values = {one["name"]: (one["a"], one["b"]) for one in changed["values"]}
    assert values["n"] == ({"integerValue": "0"}, {"stringValue": "many"})
    assert {one["b"] for one in gone["values"]} == {None}


def test_backwards_too_and_equal_to_itself(past_shell: Shell, past: str) -> None:
    backwards = ended(past_shell.bulkup("diff", "--from", "now", "--to", past, "--json"))
    assert (backwards["only_a"], backwards["only_b"]) == (1, 1)
    later = now()
    same = past_shell.bulkup("diff", "--from", later, "--json")
    assert same.code == 0, same
    assert ended(same)["equal"]


def test_what_a_person_reads(past_shell: Shell, past: str) -> None:
    result = past_shell.bulkup("diff", "--from", past)
    assert result.code == 4, result
    assert result.err == ""
    lines = result.out.splitlines()
    assert "Key('Item', 2) differs" in lines
    assert "    n: 0 → 'many'" in lines
    assert "Key('Item', 3) is only in A" in lines
    assert re.search(r"^Item +4 +1 +1 +1$", result.out, re.M)
    assert re.search(r"^Item +n +integer +string +1$", result.out, re.M)
    assert re.search(r"^A  project .*, as of 20.* UTC$", result.out, re.M)
    assert re.search(r"^7 entities compared: 1 changed, 1 only in A, 1 only in B, in ", lines[-1])


@pytest.mark.client_side
def test_a_sample_and_what_is_left_out_of_it(shell: Shell, server: Server) -> None:
    seed(server, 12)
    other = server.client(namespace="t")
    put(other, (entity(other, "Item", i, n=1) for i in range(1, 13)))
    words = ("diff", "--with", "namespace=t")
    three = shell.bulkup(*words, "--sample", "3")
    assert three.out.count(" differs") == 3
    assert "9 more not shown; show them with --sample N, or --sample all" in three.out
    assert shell.bulkup(*words, "--sample", "0").out.count(" differs") == 0
    everything = shell.bulkup(*words, "--sample", "all", "--json")
    assert len(everything.of_type("difference")) == 12
    assert "not shown" not in shell.bulkup(*words, "--sample", "all").out
    wrong = shell.bulkup(*words, "--sample", "-1")
    assert wrong.code == 2
    assert "neither all nor a number from 0 to 10000" in wrong.err


@pytest.mark.client_side
def test_reading_writes_nothing_anywhere(shell: Shell, server: Server) -> None:
    seed(server, 5)
    assert shell.bulkup("run", "bump.py").code == 0
    state = {path: path.read_bytes() for path in shell.state_dir.rglob("*") if path.is_file()}
    before = contents(server, "", "t")
    files = set(shell.folder.rglob("*"))
    for words in (
        ["--with", "namespace=t"],
        ["--with", "namespace=t", "--json", "--sample", "all"],
        ["--kind", "Item", "--with", "namespace=t", "--where", "n=1"],
        *([["--from", "0s"], ["--from", "1m", "--kind", "Item"]] if reads_the_past(server) else []),
    ):
        assert shell.bulkup("diff", *words).code in (0, 4), words
    assert contents(server, "", "t") == before
    assert set(shell.folder.rglob("*")) == files
    assert {path: path.read_bytes() for path in state} == state


@pytest.mark.client_side
def test_own_kinds_are_left_out(shell: Shell, server: Server) -> None:
    seed(server, 3)
    assert shell.bulkup("run", "bump.py").code == 0
    line = ended(shell.bulkup("diff", "--with", "namespace=t", "--json"))
    assert {kind["kind"] for kind in line["kinds"]} == {"Item"}
    shell.bulkup("diff", "--with", "namespace=t", "--kind", "BulkupRun").fails(
        2, "BulkupRun is not a kind of yours"
    )


@pytest.mark.client_side
def test_a_page_of_html_holds_everything_and_runs_nothing(shell: Shell, server: Server) -> None:
    client = server.client()
    evil = "<script>alert(1)</script>"
    put(client, [entity(client, "Item", evil, **{evil: evil})])
    words = ("diff", "--with", "namespace=t", "--html", "out.html")
    result = shell.bulkup(*words)
    assert result.code == 4, result
    page = (shell.folder / "out.html").read_text()
    assert "<script" not in page
    assert "http:" not in page
    assert "https:" not in page
    assert "&lt;script&gt;" in page
    assert "1 only in A" in page
    assert (shell.folder / "out.html").stat().st_mode & 0o777 == 0o600
    shell.bulkup(*words, "--sample", "all").fails(2, "cannot be used together")
    shell.bulkup("diff", "--with", "namespace=t", "--html", "no/where.html", "--json")
    failed = shell.bulkup("diff", "--with", "namespace=t", "--html", "no/where.html")
    assert failed.code == 1
    assert "cannot write 'no/where.html'" in failed.err
    assert shell.bulkup(*words).code == 4  # its own page may be replaced


@pytest.mark.client_side
def test_no_other_file_is_replaced_by_a_page(shell: Shell, server: Server) -> None:
    seed(server, 1)
    (shell.folder / "people.db").write_bytes(b"SQLite format 3\0")
    for name in ("bump.py", "people.db"):
        path = shell.folder / name
        before = path.read_bytes()
        refused = shell.bulkup("diff", "--with", "namespace=t", "--html", name)
        refused.fails(2, f"{name} is there and is not the page of a comparison")
        assert path.read_bytes() == before


@pytest.mark.client_side
def test_a_terminal_is_not_harmed(shell: Shell, server: Server) -> None:
    client = server.client()
    put(client, [entity(client, "Item\x1b[2J", "k\x1b[31m", **{"p\u202e": "\x1b]0;x\x07"})])
    result = shell.bulkup("diff", "--with", "namespace=t")
    assert result.code == 4, result
    assert "\x1b" not in result.out
    assert "\u202e" not in result.out


@pytest.mark.client_side
def test_a_file_and_a_target(shell: Shell, server: Server) -> None:
    seed(server, 4)
    rows = "\n".join(f'{{"__key__": ["Item", {i}], "n": {int(i == 2)}}}' for i in (1, 2, 3))
    shell.write("rows.jsonl", rows)
    loaded = shell.bulkup("local", "load", "shop.db", "rows.jsonl")
    assert loaded.code == 0, loaded
    before = shell.bulkup("local", "dump", "shop.db").out
    result = shell.bulkup("diff", "--with", "local=shop.db", "--json")
    line = ended(result)
    assert (line["same"], line["changed"], line["only_a"], line["only_b"]) == (2, 1, 1, 0), result
    assert line["b"]["target"]["local"].endswith("shop.db")
    assert line["b"]["target"]["project"] == "local"
    assert shell.bulkup("local", "dump", "shop.db").out == before
    # And the file with itself, in another namespace.
    empty = shell.bulkup("diff", "--local", "shop.db", "--with", "namespace=t", "--json")
    assert ended(empty)["only_a"] == 3
    missing = shell.bulkup("diff", "--with", "local=nope.db")
    assert missing.code == 2
    assert "there is no file 'nope.db'" in missing.err


@pytest.mark.client_side
def test_two_projects_and_a_named_target(shell: Shell, server: Server) -> None:
    seed(server, 2)
    other = Server(server.name, server.host, f"{server.project}-2")
    seed(other, 3)
    shell.write("bulkup.toml", f'[targets.two]\nproject = "{other.project}"\n')
    for other_side in (f"project={other.project}", "target=two"):
        line = ended(shell.bulkup("diff", "--with", other_side, "--json"))
        assert (line["same"], line["only_b"]) == (2, 1)
    wrong = shell.bulkup("diff", "--with", "target=three")
    assert wrong.code == 2
    assert "there is no target 'three'" in wrong.err


def test_two_databases(tmp_path: Path, embedded: Server) -> None:
    """Keys in values, too, are relative to the database of their side."""
    shell = Shell(tmp_path, embedded)
    for database, count in (("", 3), ("restored", 2)):
        client = embedded.client(**({"database": database} if database else {}))
        put(
            client,
            (
                entity(client, "Item", i, next=client.key("Item", i + 1))
                for i in range(1, count + 1)
            ),
        )
    line = ended(shell.bulkup("diff", "--with", "database=restored", "--json"))
    assert (line["same"], line["changed"], line["only_a"]) == (2, 0, 1)
    assert line["b"]["target"]["database"] == "restored"


@pytest.mark.client_side
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("diff", "both sides are project"),
        ("diff --with namespace=", "both sides are project"),
        ("diff --with place=x", "'place' is not one of target, project, database, namespace"),
        ("diff --with x", "'x' is not NAME=VALUE"),
        ("diff --with project=a --with project=b", "--with names a part twice"),
        ("diff --with project=a --with target=b", "cannot be used together"),
        ("diff --from 2026-11-28", "has no time zone"),
        ("diff --from yesterday", "is not a time"),
        ("diff --with namespace=t --where n=1", "--where needs --kind"),
        ("diff --with namespace=t --kind Item --where n=[1]", "not a single value"),
        ("diff --with namespace=t --kind=", "the name of a kind is empty"),
        ("diff --from 2100-01-01T00:00Z", "is in the future"),
        ("diff --to 1960-01-01T00:00Z", "is too long ago"),
    ],
)
def test_a_mistake_is_one_sentence(shell: Shell, server: Server, words: str, says: str) -> None:
    seed(server, 1)
    result = shell.bulkup(*words.split())
    assert result.code == 2, result
    assert says in result.err.replace("\n", " ")
    assert "Traceback" not in result.err
    assert result.out == ""


@pytest.mark.client_side
def test_nothing_is_not_taken_for_equal(shell: Shell, server: Server) -> None:
    words = ("diff", "--with", "namespace=t")
    shell.bulkup(*words).fails(1, "there are no entities on either side")
    seed(server, 1)
    seed(server, 1, namespace="t")
    result = shell.bulkup(*words, "--kind", "Items").fails(1, "'Items' has no entities on either")
    assert "(there is 'Item')" in result.err or server.name == "FS"  # FS does not list kinds
    shell.bulkup(*words, "--kind", "Item", "--where", "n=5").fails(1, "no Item matches --where")
    assert shell.bulkup(*words, "--kind", "Item", "--where", "n=0").code == 0


def test_a_time_out_of_reach_is_explained(tmp_path: Path, embedded: Server) -> None:
    shell = Shell(tmp_path, embedded)
    seed(embedded, 1)
    old = (datetime.now(timezone.utc) - timedelta(days=8)).isoformat()
    for when in (old, "2h"):
        shell.bulkup("diff", "--from", when).fails(
            1, "cannot be read as of", "within the past one hour", "point-in-time recovery"
        )


def test_a_server_that_is_not_there_is_named(nowhere: Shell) -> None:
    nowhere.environment["DATASTORE_EMULATOR_HOST"] = "localhost:1"
    nowhere.environment["GOOGLE_CLOUD_PROJECT"] = "p"
    nowhere.bulkup("diff", "--from", "1m").fails(1, "no Datastore answered at localhost:1")


def test_an_open_file_is_read_through_its_server(nowhere: Shell, tmp_path: Path) -> None:
    nowhere.write("rows.jsonl", '{"__key__": ["Item", 1], "n": 1}')
    assert nowhere.bulkup("local", "load", "shop.db", "rows.jsonl").code == 0
    server = nowhere.start("local", "serve", "shop.db", "--port", "0")
    try:
        assert server.stdout is not None
        assert server.stdout.readline()
        result = nowhere.bulkup("diff", "--local", "shop.db", "--with", "namespace=t", "--json")
        assert ended(result)["only_a"] == 1
    finally:
        server.terminate()
        server.communicate(timeout=60)


def test_a_server_that_ignores_times_is_refused(lf_shell: Shell, lf: Server) -> None:
    """It would answer with the present, and two times would always be equal."""
    seed(lf, 1)
    lf_shell.bulkup("diff", "--from", "1m").fails(1, "cannot read the past", "ignores the time")
    lf_shell.bulkup("diff", "--from", "1m", "--kind", "Item").fails(1, "cannot read the past")
