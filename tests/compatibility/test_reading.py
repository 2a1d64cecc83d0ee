"""What an earlier version of bulkup wrote can be listed, shown and loaded by this one."""

from __future__ import annotations

import json

import pytest

from tests.cli.shell import Shell
from tests.compatibility.conftest import Project


def test_list_shows_the_runs(moved: Project) -> None:
    (limited,) = moved("limited").bulkup("list", "--json").lines
    assert limited["updater"] == "Bump"
    assert limited["state"] == "stopped"
    assert limited["params"] == {"step": "2"}
    assert (limited["handled"], limited["written"], limited["failed"]) == (25, 24, 1)
    (killed,) = moved("killed").bulkup("list", "--json").lines
    assert killed["state"] == "killed"
    third, second = moved("chained").bulkup("list", "--json").lines
    assert third["predecessor"] == second["run_id"]
    assert second["successor"] == third["run_id"]
    assert [third["state"], second["state"]] == ["killed", "finished"]


def test_show_gives_the_report_with_its_failures_and_its_log(moved: Project) -> None:
    shell = moved("limited")
    result = shell.bulkup("show", shell.runs()[0], "--json")
    assert result.code == 0, result
    summary = result.summary
    assert summary["state"] == "stopped"
    assert summary["exit_code"] == 75
    assert summary["reason"]
    assert summary["log_lines"] == ["seven was here"]
    (failure,) = summary["failures"]
    assert failure["key"] == "Key('Item', 5)"
    assert failure["error"] == "KeyError: 'n'"
    assert "handle_entity" in failure["traceback"]
    shown = shell.bulkup("show", shell.runs()[0]).out
    assert "Key('Item', 5)" in shown
    assert "seven was here" in shown


def test_status_reads_the_ledger(moved: Project) -> None:
    shell = moved("migrating")
    result = shell.bulkup("status", "--local", "shop.db", "--check", "--json")
    assert result.code == 4, result
    standing = {line["name"]: line["standing"] for line in result.of_type("migration")}
    assert standing == {"0001_a": "applied", "0002_b": "interrupted", "0003_c": "pending"}
    first, second, _ = result.of_type("migration")
    assert first["counts"]["handled"] == 60
    assert first["code"] == first["applied_code"]
    assert second["code"] == second["applied_code"]
    assert second["who"] == "ada@old-machine"


def test_reading_changes_nothing(moved: Project) -> None:
    shell = moved("killed")
    before = dump(shell)
    for words in (["list"], ["show", shell.runs()[0]], ["run", "-n", "bump.py", "-p", "step=2"]):
        local = ["--local", "shop.db"] if "run" in words else []
        assert shell.bulkup(*words, *local).code in (0, 3)
    assert dump(shell) == before


# --- the embedded Datastore ---


def dump(shell: Shell, *options: str) -> str:
    result = shell.bulkup("local", "dump", "shop.db", *options)
    assert result.code == 0, result
    return result.out


@pytest.mark.parametrize(
    ("name", "options"), [("dump.jsonl", ()), ("lossless.jsonl", ("--lossless",))]
)
def test_a_file_of_the_embedded_datastore_gives_the_same_dump(
    moved: Project, name: str, options: tuple[str, ...]
) -> None:
    shell = moved("values")
    assert lines(dump(shell, *options)) == lines((shell.folder / name).read_text())


@pytest.mark.parametrize("name", ["dump.jsonl", "lossless.jsonl"])
def test_an_earlier_dump_is_loaded_and_is_the_same(moved: Project, name: str) -> None:
    shell = moved("values")
    (shell.folder / "shop.db").unlink()
    loaded = shell.bulkup("local", "load", "shop.db", name)
    assert loaded.code == 0, loaded
    assert lines(dump(shell)) == lines((shell.folder / "dump.jsonl").read_text())


def lines(text: str) -> list[object]:
    found = [json.loads(line) for line in text.splitlines()]
    assert len(found) == 7
    return found
