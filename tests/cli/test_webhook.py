"""`--webhook`: posted at the end, never printed, and never the reason for another exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import BUMP, Shell, seed
from tests.conftest import Server
from tests.report.hooks import OK, SECRET, hooks

pytestmark = pytest.mark.sampled(5)


def test_a_run_posts_its_report_and_prints_no_address(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, 3)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP)
    with hooks() as start:
        hook = start(OK)
        stopped = shell.bulkup("run", "bump.py", "--limit", "1", "--webhook", hook.url)
        assert stopped.code == 75
        assert f"Report posted to http://127.0.0.1:{hook.port}/…." in stopped.err
        resumed = shell.bulkup("resume", "--json", env={"BULKUP_WEBHOOK": hook.url})
        assert [line["ok"] for line in resumed.of_type("delivery")] == [True, True]
        shell.write("bulkup.toml", f'webhook = "{hook.url}"')
        shown = [shell.bulkup("config"), shell.bulkup("config", "--json"), shell.bulkup("show")]
        assert f"http://127.0.0.1:{hook.port}/…" in shown[0].out
        for result in (stopped, resumed, *shown):
            assert SECRET not in result.out + result.err
        again = shell.bulkup("run", "bump.py", "-n")
        assert again.code == 0, again
    assert [body["state"] for _, _, body in hook.got] == ["stopped", "finished", "finished"]
    for path in shell.state_dir.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


def test_a_webhook_that_fails_is_told_and_changes_no_exit_code(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, 3)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP)
    with hooks() as start:
        hook = start((410, {}, b"channel_is_archived"))
        result = shell.bulkup("run", "bump.py", "--webhook", hook.url)
    assert result.code == 0, result
    assert "could not be posted to http://127.0.0.1" in result.err
    assert "it answered 410 (channel_is_archived)." in result.err


def test_an_address_that_is_not_valid_is_refused_before_the_run(nowhere: Shell) -> None:
    for address in (f"ftp://host/{SECRET}", f"{SECRET}"):
        refused = nowhere.bulkup("run", "bump.py", "--webhook", address)
        assert refused.code == 2
        assert "address of the webhook" in refused.err
        assert SECRET not in refused.err
    nowhere.write("bulkup.toml", f'webhook = "ftp://{SECRET}"')
    refused = nowhere.bulkup("run", "bump.py")
    assert refused.code == 2
    assert "webhook" in refused.err
    assert SECRET not in refused.err
