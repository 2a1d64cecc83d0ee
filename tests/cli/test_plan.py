"""`bulkup plan` as a stranger types it, wrongly too."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from bulkup.local.process import start_local
from bulkup.runs.plan_file import read_plan
from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Result, Shell, contents, ended, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)


@pytest.fixture
def here(tmp_path: Path, embedded: Server) -> Shell:
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP)
    (tmp_path / ".git").mkdir()
    seed(embedded, 30)
    return shell


def plan_line(result: Result) -> dict[str, Any]:
    (found,) = result.of_type("plan")
    keeps_the_contract(result.lines)
    return found


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_plan_leaves_datastore_and_the_folder_byte_identical(
    shell: Shell, server: Server
) -> None:
    seed(server, 30)
    assert shell.bulkup("run", "bump.py", "--limit", "10", "--batch-size", "5").code == 75
    data, files = contents(server), tree(shell.folder)
    for words in ((), ("--full",), ("--sample", "7"), ("--json",)):
        result = shell.bulkup("plan", "bump.py", *words)
        assert result.code == 0, result
        assert contents(server) == data
        assert tree(shell.folder) == files


def test_a_plan_of_a_file_leaves_the_file_byte_identical(here: Shell) -> None:
    rows = "".join(json.dumps({"n": i}) + "\n" for i in range(200))
    here.write("items.jsonl", rows)
    assert here.bulkup("local", "load", "items.db", "items.jsonl", "--kind", "Item").code == 0
    before = sha256((here.folder / "items.db").read_bytes()).digest()
    for words in (("--full",), ("--sample", "20")):
        result = here.bulkup("plan", "bump.py", "--local", "items.db", *words, "--json")
        assert result.code == 0, result
        assert plan_line(result)["predicted"]["written"]["count"] == 200
        assert sha256((here.folder / "items.db").read_bytes()).digest() == before
    assert not here.state_dir.exists()


def test_people_read_what_would_change_and_what_it_costs(here: Shell) -> None:
    result = here.bulkup("plan", "bump.py", "-p", "step=5")
    assert result.code == 0, result
    for part in (
        "Of 30 entities, 30 written.",
        "With step=5.",
        "All 30 entities were handled.",
        "Nothing was written.",
        "Update Item: 30",
        "n: integer",
        "- n: 0",
        "+ n: 5",
        "Prices of nam5:",
        "0.00 USD",
        "At least",
        "30 changed again (n)",
    ):
        assert part in result.out, part
    assert "Planning Bump (Count every Item up.)" in result.err


def test_what_was_written_and_how_to_carry_it_out_is_said_last(here: Shell) -> None:
    result = here.bulkup("plan", "bump.py", "--out", "a plan.jsonl", "--markdown", "plan.md")
    assert result.out.endswith(
        "The plan is in a plan.jsonl and plan.md.\n"
        "To carry it out: bulkup run bump.py --plan 'a plan.jsonl'\n"
    )
    carried_out = here.bulkup("run", "bump.py", "--plan", "a plan.jsonl", "--max-drift", "100%")
    assert carried_out.code == 0


def test_programs_get_the_same_as_one_line(here: Shell) -> None:
    result = here.bulkup("plan", "bump.py", "--sample", "10", "--json")
    line = plan_line(result)
    assert (line["sampled"], line["handled"], line["drawn"]) == (True, 10, "keys")
    assert line["predicted"]["handled"]["count"] == 30
    assert line["predicted"]["written"] == {"count": 30, "low": 19, "high": 30}
    assert {w["kind"] for w in line["warnings"]} >= {"not_idempotent"}
    assert result.of_type("summary") == []


def test_failures_are_named_and_the_exit_code_tells(here: Shell) -> None:
    here.write("fails.py", BUMP.replace('entity["n"] +=', 'entity["m"] +='))
    result = here.bulkup("plan", "fails.py", "--json")
    assert result.code == 3, result
    (group,) = plan_line(result)["failure_groups"]
    assert group["count"] == 30
    assert group["error"] == "KeyError: 'm'"
    shown = here.bulkup("plan", "fails.py")
    assert shown.code == 3
    assert "a run stops at the first failure" in shown.out


def test_the_files_of_a_plan(here: Shell) -> None:
    names = ("plan.jsonl", "plan.html", "plan.md")
    words = ("--full", "--out", names[0], "--html", names[1], "--markdown", names[2])
    for _ in range(2):  # the second replaces those of the first
        result = here.bulkup("plan", "bump.py", *words)
        assert result.code == 0, result
    found = read_plan(here.folder / names[0])
    assert found.changes == 30
    head = json.loads((here.folder / names[0]).read_text().splitlines()[0])
    keeps_the_contract([head])
    assert ">Changes</h2>" in (here.folder / names[1]).read_text()
    assert (here.folder / names[2]).read_text().startswith("<!-- bulkup plan -->\n### ")
    for name in names:
        assert (here.folder / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("nope.py",), 10, "there is no file nope.py"),
        (("bump.py", "--sample", "0"), 2, "--sample"),
        (("bump.py", "--sample", "many"), 2, "--sample"),
        (("bump.py", "--sample", "5", "--full"), 2, "--full handles all entities; leave one out"),
        (("bump.py", "-p", "size=3"), 2, "size"),
        (("bump.py", "--out", "no/plan.jsonl"), 2, "there is no folder"),
        (("bump.py", "--out", "bump.py"), 2, "is there and is not a plan"),
        (("bump.py", "--html", "bump.py"), 2, "is there and is not the page of a plan"),
        (("bump.py", "--markdown", "bump.py"), 2, "is there and is not the Markdown of a plan"),
        (("bump.py", "--out", "/dev/null"), 2, "is not a regular file"),
        (("bump.py", "--local", "none.db"), 2, "there is no file 'none.db'"),
    ],
)
def test_what_is_typed_wrongly_is_said_in_a_sentence_and_writes_nothing(
    here: Shell, embedded: Server, words: tuple[str, ...], code: int, says: str
) -> None:
    before, files = contents(embedded), tree(here.folder)
    result = here.bulkup("plan", *words)
    assert result.code == code, result
    assert says in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    assert (contents(embedded), tree(here.folder)) == (before, files)


def test_a_typo_of_a_kind_is_refused_like_by_a_run(here: Shell) -> None:
    here.write("typo.py", BUMP.replace('kind="Item"', 'kind="Items"'))
    result = here.bulkup("plan", "typo.py")
    assert (result.code, result.out) == (1, "")
    assert "no entity of kind Items" in result.err
    assert "did you mean Item?" in result.err
    assert here.bulkup("plan", "typo.py", "--allow-empty").code == 0


def test_the_prices_are_those_of_the_configuration(here: Shell) -> None:
    here.write("bulkup.toml", '[prices]\nregion = "us-central1"\n')
    bill = plan_line(here.bulkup("plan", "bump.py", "--json"))["bill"]
    prices = {line["operation"]: line["price"] for line in bill["lines"]}
    assert prices == {"reads": 0.03, "writes": 0.09, "deletes": 0.01, "small": 0.0}
    assert (bill["region"], bill["as_of"] != "") == ("us-central1", True)
    (head,) = here.bulkup("config", "plan", "--json").of_type("config")
    assert head["prices"] == {"region": "us-central1"}
    assert "Prices of `bulkup plan`: region=us-central1" in here.bulkup("config").out
    here.write("bulkup.toml", "[prices]\nreads = 1\nwrites = 2\ndeletes = 0\ncurrency = 'EUR'\n")
    bill = plan_line(here.bulkup("plan", "bump.py", "--json"))["bill"]
    assert (bill["currency"], bill["region"], bill["source"]) == (
        "EUR", "", f"{here.folder}/bulkup.toml",
    )  # fmt: skip
    assert bill["cost"] == pytest.approx((30 * 1 + 31 * 2) / 100_000)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[prices]\nregion = "mars"\n',
            "the region 'mars' is not in bulkup's table of list prices",
        ),
        ('[prices]\nregion = "us-centra1"\n', "did you mean us-central1?"),
        (
            "[prices]\nreads = -1\n",
            "prices.reads is the number -1; it must be the price of 100,000",
        ),
        ("[prices]\nwrites = nan\n", "it must be the price of 100,000"),
        ("[prices]\nread = 1\n", "there is no setting prices.read; did you mean reads?"),
        ("prices = 3\n", "prices is the number 3; it must be a table; write [prices]"),
        ("[prices]\nregion = 3\n", "prices.region is the number 3; it must be a string"),
    ],
)
def test_prices_that_are_wrong_are_refused_in_a_sentence(here: Shell, text: str, says: str) -> None:
    here.write("bulkup.toml", text)
    here.bulkup("plan", "bump.py").fails(2, says)


def test_what_a_terminal_shows_has_colours_and_obeys_no_entity(here: Shell) -> None:
    here.write(
        "evil.py", BUMP.replace('entity["n"] += self.step', 'entity["n"] = "\\x1b]0;x\\x07"')
    )
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "bulkup", "plan", "evil.py"], cwd=here.folder,
        env={**here.environment, "TERM": "xterm-256color"}, stdin=subprocess.DEVNULL,
        stdout=slave, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(master)
    assert process.wait(300) == 0
    assert b"\x1b[32m" in shown  # green
    assert b"\x1b[31m" in shown  # red
    assert b"\x1b]0;" not in shown
    assert b"\\x1b]0;x" in shown


SLOW = BUMP.replace(
    'entity["n"] += self.step',
    'open("handled", "a").write("x"); time.sleep(0.05); entity["n"] += 1',
).replace("from bulkup", "import time\nfrom bulkup", 1)


def test_ctrl_c_ends_a_plan_at_once_and_leaves_nothing(here: Shell, embedded: Server) -> None:
    here.write("slow.py", SLOW)
    before = contents(embedded)
    process = here.begin("plan", "slow.py", "--full", "--out", "plan.jsonl")
    while not (here.folder / "handled").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    result = ended(process)
    assert result.code == 130, result
    assert "before the plan was complete; nothing was written" in result.err
    assert not (here.folder / "plan.jsonl").exists()
    assert not list(here.folder.glob(".plan.jsonl*"))
    assert contents(embedded) == before


def test_a_plan_that_was_killed_leaves_nothing(here: Shell) -> None:
    here.write("slow.py", SLOW)
    process = here.begin("plan", "slow.py", "--full", "--out", "plan.jsonl")
    while not (here.folder / "handled").exists():
        assert process.poll() is None
    process.kill()
    assert ended(process).code == -signal.SIGKILL
    assert not list(here.folder.glob("*plan.jsonl*"))


def test_a_full_disk_ends_a_plan_in_a_sentence(here: Shell) -> None:
    """A limit on the size of files says EFBIG, where a full disk says ENOSPC."""
    seed_text = BUMP.replace('entity["n"] += self.step', 'entity["n"] = "x" * 1000')
    here.write("long.py", seed_text)
    program = f"ulimit -f 8; exec {sys.executable} -m bulkup plan long.py --out plan.jsonl"
    done = subprocess.run(
        ["bash", "-c", program], cwd=here.folder, env=here.environment, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done
    assert re.search(r"Error: cannot write .*plan\.jsonl \(File too large\)", done.stderr)
    assert "Traceback" not in done.stderr
    assert not list(here.folder.glob("*plan.jsonl*"))


def test_a_file_that_another_process_has_open_is_named(here: Shell) -> None:
    here.write("items.jsonl", '{"n": 1}\n')
    here.bulkup("local", "load", "items.db", "items.jsonl", "--kind", "Item")
    with start_local(str(here.folder / "items.db")):
        result = here.bulkup("plan", "bump.py", "--local", "items.db")
        result.fails(11, "is already open in process", "try again when that process has ended (if")


def test_runs_of_the_same_work_are_named(here: Shell) -> None:
    def kinds() -> set[str]:
        result = here.bulkup("plan", "bump.py", "--json")
        return {warning["kind"] for warning in plan_line(result)["warnings"]}

    assert not kinds() & {"unfinished_run", "done_before"}
    assert here.bulkup("run", "bump.py", "--limit", "10").code == 75
    assert "unfinished_run" in kinds()
    assert here.bulkup("resume").code == 0
    assert "done_before" in kinds()


def test_the_run_that_was_planned_does_what_the_plan_said(here: Shell, embedded: Server) -> None:
    predicted = plan_line(here.bulkup("plan", "bump.py", "--full", "--json"))["predicted"]
    counts = here.bulkup("run", "bump.py", "--json").summary["counts"]
    for name in set(predicted) & set(counts):
        assert predicted[name]["count"] == counts[name], name
    assert set(values(embedded.client()).values()) == {1}
