"""`bulkup rehearse` as a stranger types it, wrongly too."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import Result, Shell
from tests.rehearsal.data import BUMP, LABEL, contents, items

pytestmark = pytest.mark.sampled(9)


@pytest.fixture
def here(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "scratch").mkdir()
    shell.environment["TMPDIR"] = str(tmp_path / "scratch")
    shell.write("label.py", LABEL)
    shell.write("bump.py", BUMP)
    items(tmp_path / "items.db", 14)
    return shell


def rehearsal(result: Result) -> dict[str, Any]:
    (found,) = result.of_type("rehearsal")
    keeps_the_contract(result.lines)
    return found


def is_clean(shell: Shell) -> bool:
    return not os.listdir(shell.folder / "scratch")


def test_a_rehearsal_predicts_exactly_what_the_run_then_does(here: Shell) -> None:
    words = ("label.py", "--local", "items.db", "--json")
    result = here.bulkup("rehearse", *words, "--crashes", "2")
    assert result.code == 3, result
    found = rehearsal(result)
    assert not here.state_dir.exists()
    assert is_clean(here)
    ran = here.bulkup("run", *words)
    assert ran.code == result.code
    (work,) = found["works"]
    (run,) = work["runs"]
    summary = ran.summary
    for name, count in run["counts"].items():
        assert summary["counts"][name] == count, name
    assert run["failure_groups"] == summary["failure_groups"]
    assert work["effect"]["changed"] == summary["counts"]["written"]
    assert work["idempotent"] is True
    assert work["crash"]["same"] is True
    # The bill, up to bulkup's own records.
    counted = summary["operations"]["counted"]
    for line in work["bill"]["lines"]:
        if line["operation"] != "small":
            assert abs(line["count"]["count"] - counted[line["operation"]]) <= 5, line


def test_the_pages(here: Shell) -> None:
    pages = ("--html", "out.html", "--markdown", "out.md")
    result = here.bulkup(
        "rehearse", "bump.py", "-p", "step=2", "--local", "items.db", "--crashes", "1", *pages
    )
    assert result.code == 0, result
    markdown = (here.folder / "out.md").read_text()
    assert markdown.startswith("<!-- bulkup rehearsal -->\n")
    assert "14 entities changed" in markdown
    assert "No&#58; after a second run 14 entities changed (Item&#46;n)" in markdown
    assert "Yes&#58; killed once (SIGKILL) and resumed" in markdown
    html = (here.folder / "out.html").read_text()
    assert "14 entities changed" in html
    assert "<script" not in html
    assert (here.folder / "out.md").stat().st_mode & 0o777 == 0o600
    # The same again may replace both, and nothing else.
    again = here.bulkup("rehearse", "bump.py", "--local", "items.db", "--html", "bump.py")
    again.fails(2, "is not the page of a rehearsal")


def test_the_report_is_shown_when_a_page_cannot_be_written(here: Shell) -> None:
    (here.folder / "out").mkdir()
    here.write(
        "removes.py",
        """
        import shutil
        import bulkup

        @bulkup.updater(kind="Item")
        def removes(entity):
            shutil.rmtree("out", ignore_errors=True)
        """,
    )
    words = ("removes.py", "--local", "items.db", "--crashes", "0", "--no-second-run")
    result = here.bulkup("rehearse", *words, "--markdown", "out/pr.md")
    assert result.code == 1, result
    assert "14 entities handled" in result.out
    assert "Error: cannot write" in result.err
    assert "The report is in" not in result.err


def test_migrations(here: Shell) -> None:
    here.write("updaters/0001_bump.py", BUMP)
    here.write("updaters/0002_label.py", LABEL)
    result = here.bulkup(
        "rehearse", "--migrations", "--local", "items.db", "-p", "0001_bump:step=7",
        "--crashes", "0", "--no-second-run", "--json",
    )  # fmt: skip
    assert result.code == 3, result
    found = rehearsal(result)
    assert [work["name"] for work in found["works"]] == ["0001_bump", "0002_label"]
    assert found["works"][0]["runs"][0]["params"] == {"step": "7"}
    assert found["works"][1]["crash"] is None


def test_a_namespace_that_is_not_there_is_not_green(here: Shell) -> None:
    words = ("rehearse", "bump.py", "--local", "items.db", "--namespace", "nope")
    result = here.bulkup(*words)
    assert result.code == 4, result
    assert "There is no entity of kind Item on" in result.out
    assert "so nothing was rehearsed; add --allow-empty if this is expected." in result.out
    assert "Yes" not in result.out
    allowed = here.bulkup(*words, "--allow-empty", "--json")
    assert allowed.code == 0, allowed
    (work,) = rehearsal(allowed)["works"]
    assert (work["idempotent"], work["crash"], work["finished"]) == (None, None, True)


def test_no_pending_migration_is_nothing_to_do(here: Shell) -> None:
    here.write("updaters/0001_bump.py", BUMP)
    assert here.bulkup("migrate", "--local", "items.db", "--yes").code == 0
    result = here.bulkup("rehearse", "--migrations", "--local", "items.db")
    assert result.code == 0, result
    assert "No migration is pending" in result.out


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--local", "items.db"), 2, "name an updater"),
        (("bump.py",), 2, "say which data to copy"),
        (("bump.py", "--local", "item.db"), 2, "did you mean 'items.db'"),
        (("bump.py", "--local", "bump.py"), 1, "is not a file of bulkup's embedded Datastore"),
        (("bmp.py", "--local", "items.db"), 10, "bump.py"),
        (("bmp.py", "--from-export", "nowhere"), 10, "bump.py"),  # before hours of loading
        (
            ("bump.py", "--local", "items.db", "--project", "shop"),
            1,
            "on project shop, in items.db",
        ),
        (("bump.py", "--local", "items.db", "-p", "stop=1"), 2, "step"),
        (("bump.py", "--local", "items.db", "--kind", "Itm"), 2, "Item"),
        (("bump.py", "--local", "items.db", "--html", "no/x.html"), 2, "there is no folder"),
        (("bump.py", "--local", "items.db", "--all-namespaces"), 2, "No such option"),
        (("--migrations", "--local", "items.db"), 10, "there is no folder updaters"),
        (("--migrations", "x", "--local", "items.db", "--kind", "Item"), 2, "--migrations"),
    ],
)
def test_wrong_usage_is_one_sentence(
    here: Shell, words: tuple[str, ...], code: int, text: str
) -> None:
    result = here.bulkup("rehearse", *words)
    assert result.code == code, result
    assert text in result.err
    assert "Traceback" not in result.err
    assert "bug in bulkup" not in result.err
    assert is_clean(here)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_the_copies(here: Shell, number: signal.Signals) -> None:
    here.write(
        "slow.py",
        """
        import time, pathlib
        import bulkup

        @bulkup.updater(kind="Item")
        def slow(entity):
            pathlib.Path("started").touch()
            time.sleep(60)
        """,
    )
    before = contents(here.folder / "items.db")
    process = here.begin("rehearse", "slow.py", "--local", "items.db")
    while not (here.folder / "started").exists():
        assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "nothing but copies was written" in err
    assert is_clean(here)
    assert contents(here.folder / "items.db") == before


def test_a_file_that_is_being_served_is_copied_as_it_is(here: Shell) -> None:
    served = here.begin("local", "serve", "items.db", "--port", "0")
    try:
        assert served.stdout is not None
        served.stdout.readline()
        result = here.bulkup(
            "rehearse", "bump.py", "--local", "items.db", "--crashes", "0", "--json"
        )
        assert result.code == 0, result
        assert json.loads(result.out)["works"][0]["effect"]["changed"] == 14
    finally:
        served.terminate()
        served.communicate()


def test_what_a_dead_rehearsal_has_left_is_removed_by_the_next(here: Shell) -> None:
    left = here.folder / "scratch" / "bulkup-rehearsal-x"
    left.mkdir()
    (left / "in-use").touch()
    (left / "base").write_text("data")
    result = here.bulkup("rehearse", "bmp.py", "--local", "items.db")
    assert result.code == 10, result
    assert is_clean(here)
