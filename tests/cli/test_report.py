"""`bulkup report`: the page of a run, left in its folder and made again, in every form."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.shell import Shell, seed
from tests.conftest import Server
from tests.report.test_page import Page

pytestmark = [pytest.mark.sampled(5), pytest.mark.client_side]

UPDATER = """
    import bulkup

    @bulkup.updater(kind="Item", max_failures=-1)
    def bump(entity, *, by: int = 1):
        if entity.key.id % 10 == 3:
            raise ValueError("<script>alert(1)</script> \\x1b[2J")
        entity["n"] += by
        entity["</script>"] = "\\u202e\\x1b[2J"
        return entity
"""


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    seed(embedded, 30)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", UPDATER)
    return shell


def only_folder(shell: Shell) -> Path:
    (checkpoint,) = shell.state_dir.glob("*/checkpoint.sqlite")
    return checkpoint.parent


def test_each_end_of_a_runner_leaves_a_page(shell: Shell) -> None:
    assert shell.bulkup("run", "bump.py", "--limit", "10", "--batch-size", "5").code == 75
    page = only_folder(shell) / "report.html"
    first = Page(page.read_text())
    assert "Stopped" in first.text
    assert "bulkup resume" in first.text
    assert page.stat().st_mode & 0o777 == 0o600
    assert shell.bulkup("resume").code == 3
    last = Page(page.read_text())
    assert "Finished with failures" in last.text
    assert "<script>alert(1)</script> \\x1b[2J" in last.text
    assert "'\\u202e\\x1b[2J'" in last.text or "\\u202e" in last.text
    assert len(last.data()["runners_known"]) == 2  # type: ignore[arg-type]
    assert page.read_text().count("<script") == 1


def test_dry_runs_and_commands_that_read_leave_no_page(shell: Shell) -> None:
    assert shell.bulkup("run", "-n", "bump.py").code == 3
    assert not shell.state_dir.exists()
    assert shell.bulkup("run", "bump.py").code == 3
    (page := only_folder(shell) / "report.html").unlink()
    for words in (["show"], ["report"], ["report", "--html"], ["report", "--json"], ["list"]):
        assert shell.bulkup(*words).code == 0
    assert not page.exists()


def test_a_page_that_cannot_be_written_is_a_warning(shell: Shell) -> None:
    assert shell.bulkup("run", "bump.py", "--limit", "10", "--batch-size", "5").code == 75
    page = only_folder(shell) / "report.html"
    page.unlink()
    page.mkdir()
    ended = shell.bulkup("resume")
    assert ended.code == 3
    assert "report.html could not be written: Is a directory" in ended.err


def test_a_report_is_made_again_in_every_form(shell: Shell, tmp_path: Path) -> None:
    assert shell.bulkup("run", "bump.py").code == 3
    page = Page(shell.bulkup("report", "--html").out)
    assert "Finished with failures" in page.text
    markdown = shell.bulkup("report", "--markdown").out
    assert markdown.startswith("<!-- bulkup report -->\n### ")
    assert "27 written" in markdown
    (line,) = shell.bulkup("report", "--json").lines
    assert line["type"] == "report"
    assert line["counts"]["failed"] == 3
    assert line["changes"][0]["changes"]
    text = shell.bulkup("report").out
    assert "27 written" in text
    assert "Who ran it" in text
    beginnings = {
        "r.html": "<!DOCTYPE html>",
        "r.md": "<!-- bulkup",
        "r.json": "{",
        "r.txt": "Finished",
    }
    for name, beginning in beginnings.items():
        assert shell.bulkup("report", "-o", name).code == 0
        assert (tmp_path / name).read_text().startswith(beginning)
        assert shell.bulkup("report", "-o", name).code == 0  # it is ours
    assert json.loads((tmp_path / "r.json").read_text())["run_id"] == line["run_id"]


def test_a_file_that_is_not_a_report_is_not_replaced(shell: Shell) -> None:
    assert shell.bulkup("run", "bump.py").code == 3
    refused = shell.bulkup("report", "--html", "-o", "bump.py")
    assert refused.code == 2
    assert "bump.py is there and is not a report of this form" in refused.err
    assert shell.bulkup("report", "-o", "nowhere/r.html").code == 2
    shell.write("own.txt", "  Run away")
    shell.bulkup("report", "-o", "own.txt").fails(2, "is not a report of this form")
    assert "ends with .pdf" in shell.bulkup("report", "-o", "r.pdf").err
    assert shell.bulkup("report", "--html", "-o", "r.odd").code == 0
    for command in ("report", "bundle"):
        shell.bulkup(command, "-o", "-").fails(2, "- is not standard output here; name a file")
    assert not (shell.folder / "-").exists()
    assert not (shell.folder / "r.pdf").exists()
    both = shell.bulkup("report", "--html", "--markdown")
    assert "--html and --markdown cannot be used together" in both.err


def test_two_runs_are_compared_in_every_form(shell: Shell) -> None:
    assert shell.bulkup("run", "bump.py").code == 3
    assert shell.bulkup("run", "bump.py", "-p", "by=2", "--limit", "10").code == 75
    first, second = sorted(path.name for path in shell.state_dir.iterdir() if path.is_dir())
    words = ["report", first, "--compare", second]
    text = shell.bulkup(*words).out
    assert re.search(r"Handled +30 +10 +-20 \(-67%\)", text)
    assert re.search(r"Parameters +by=1 +by=2", text)
    page = Page(shell.bulkup(*words, "--html").out)
    assert "-20 (-67%)" in page.text
    assert "| Handled | 30 | 10 |" in shell.bulkup(*words, "--markdown").out
    (line,) = shell.bulkup(*words, "--json").lines
    assert line["type"] == "comparison"
    assert [run["run_id"] for run in line["runs"]] == [first, second]


def test_a_run_that_is_not_there_is_a_sentence(shell: Shell) -> None:
    missing = shell.bulkup("report", "2026")
    assert missing.code == 10
    assert "bulkup list" in missing.err


def test_a_group_of_runs_has_a_page_with_its_namespaces(shell: Shell, embedded: Server) -> None:
    seed(embedded, 20, namespace="other")
    assert shell.bulkup("run", "bump.py", "--all-namespaces").code == 3
    (group_id,) = {folder.name.partition("@")[0] for folder in shell.state_dir.glob("*@*")}
    saved = Page((shell.state_dir / group_id / "report.html").read_text())
    made = Page(shell.bulkup("report", group_id, "--html").out)
    for page in (saved, made):
        assert "(default)" in page.text
        assert "other" in page.text
        assert "The run of each namespace has its own charts." in page.text
    for folder in shell.state_dir.glob("*@*"):
        assert len(Page((folder / "report.html").read_text()).of("figure")) >= 1
