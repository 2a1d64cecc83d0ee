"""`bulkup bundle`, and the commands that read one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Shell, seed
from tests.conftest import Server

pytestmark = pytest.mark.client_side


def test_a_bundle_is_written_once_and_read_by_show_report_and_logs(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, 5)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP + FAILS)
    assert shell.bulkup("run", "bump.py", "--max-failures", "-1", "--limit", "4").code == 75
    (run_id,) = shell.runs()
    made = shell.bulkup("bundle")
    name = f"bulkup-{run_id}.zip"
    assert (made.code, made.out) == (0, f"{name}\n")
    assert f"bulkup show {name}" in made.err
    elsewhere = Shell(tmp_path / "elsewhere")
    elsewhere.folder.mkdir()
    (elsewhere.folder / name).write_bytes((tmp_path / name).read_bytes())
    shown = elsewhere.bulkup("show", name)
    assert shown.code == 0, shown
    assert "Stopped" in shown.out
    assert "ValueError: [" in shown.out
    assert "bulkup resume" not in shown.out
    assert "secret" not in shown.out
    as_json = elsewhere.bulkup("show", name, "--json")
    keeps_the_contract(as_json.lines)
    assert as_json.summary["next_steps"] == []
    assert len(elsewhere.bulkup("show", name, "--failed-keys").out.splitlines()) == 1
    logs = elsewhere.bulkup("logs", f"./{name}", "--json")
    keeps_the_contract(logs.lines)
    assert [line["type"] for line in logs.lines] == ["start", "failure", "end"]
    page = elsewhere.bulkup("report", name, "-o", "report.html")
    assert page.code == 0, page
    assert "secret" not in (elsewhere.folder / "report.html").read_text()
    assert sorted(p.name for p in elsewhere.folder.iterdir()) == sorted([name, "report.html"])
    again = shell.bulkup("bundle", run_id, "-o", name, "--with-values")
    assert again.code == 0
    assert "secret" in shell.bulkup("show", name).out
    shell.bulkup("bundle", "-o", "bump.py").fails(2, "is not a bundle")
    shell.bulkup("bundle", "nosuchrun").fails(10, "there is no run 'nosuchrun'")
    shell.bulkup("show", "bump.py").fails(2, "is not a bundle of bulkup")
    shell.bulkup("show", "no.zip").fails(2, "cannot read no.zip")


FAILS = """
_handle = Bump.handle_entity

def handle_entity(self, entity):
    if entity.key.id == 2:
        raise ValueError("secret")
    _handle(self, entity)

Bump.handle_entity = handle_entity
"""
