"""`bulkup migrate` and `bulkup status` over namespaces, each with its own ledger."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.shell import Shell, seed, values
from tests.conftest import Server, _server
from tests.migrations.conftest import trails, write_step
from tests.namespaces.conftest import NAMESPACES

pytestmark = [pytest.mark.sampled(9), pytest.mark.client_side]

ALL = ("--all-namespaces",)


class Project:
    def __init__(self, folder: Path, server: Server) -> None:
        self.server = server
        self.shell = Shell(folder, server)
        for number, mark in enumerate("abc", 1):
            write_step(self.shell, f"{number:04d}_{mark}", mark)
        for namespace in NAMESPACES:
            seed(server, 12, namespace=namespace or None).close()

    def trails(self) -> dict[str, set[str]]:
        return {n: trails(self.server.client(namespace=n)) for n in NAMESPACES}


@pytest.fixture(params=["EM", "LF"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    return Project(tmp_path, _server(request, request.param))


@pytest.fixture
def embedded_project(tmp_path: Path, embedded: Server) -> Project:
    return Project(tmp_path, embedded)


def test_killed_repeatedly_each_migration_is_applied_once_per_namespace(project: Project) -> None:
    migrate = ("migrate", *ALL, "--batch-size", "3", "--in-flight", "2")
    first = project.shell.bulkup("migrate", "--namespaces", "tenant-1", "--to", "0002")
    assert first.code == 0, first
    for mark in "bcc":
        assert project.shell.bulkup(*migrate, env={"DIE_AT": mark}).code == -9
        shutil.rmtree(project.shell.state_dir)
    result = project.shell.bulkup(*migrate)
    assert result.code == 0, result
    assert project.trails() == {namespace: {"abc"} for namespace in NAMESPACES}
    again = project.shell.bulkup(*migrate)
    assert (again.code, again.out.splitlines()[-1]) == (0, "Nothing is pending.")


def test_a_failure_stops_it_and_the_pending_namespaces_are_named(embedded_project: Project) -> None:
    project = embedded_project
    assert project.shell.bulkup("migrate").code == 0
    result = project.shell.bulkup("migrate", *ALL, "--json", env={"FAIL_AT": "b"})
    assert result.code == 1
    (group,) = result.of_type("group")
    assert group["stopped_at"] == "tenant-1"
    assert group["pending"] == ["tenant-1", "tenant-2", "tenant-10"]
    assert [(n["namespace"], n["applied"], n["stopped_at"]) for n in group["namespaces"]] == [
        ("", [], ""),
        ("tenant-1", ["0001_a"], "0002_b"),
    ]
    said = project.shell.bulkup("migrate", *ALL, env={"FAIL_AT": "b"})
    assert "Migrations are left in tenant-1, tenant-2, tenant-10." in said.out
    assert "Continue with: bulkup migrate updaters --all-namespaces" in said.out


def test_a_limit_holds_for_all_namespaces_together(embedded_project: Project) -> None:
    result = embedded_project.shell.bulkup("migrate", *ALL, "--limit", "40", "--json")
    assert result.code == 75, result
    assert "stopped after 40 entities (--limit)" in result.of_type("group")[0]["reason"]
    assert embedded_project.trails() == {
        "": {"abc"}, "tenant-1": {"a", ""}, "tenant-2": {""}, "tenant-10": {""},
    }  # fmt: skip


def test_new_namespaces_are_named_and_the_same_command_migrates_them(
    embedded_project: Project,
) -> None:
    project = embedded_project
    step = project.shell.folder / "updaters/0001_a.py"
    step.write_text(
        step.read_text().replace(
            "def handle_entity(self, entity):",
            "def handle_entity(self, entity):\n"
            "        self.client.put(__import__('google.cloud.datastore').cloud.datastore.Entity(\n"
            "            self.client.key('Item', 1, namespace='tenant-3')))",
        )
    )
    result = project.shell.bulkup("migrate", "--namespaces", "tenant-*")
    assert result.code == 0, result
    assert "Namespaces that appeared during the run and were not processed: tenant-3." in result.out
    assert "Apply there too with: bulkup migrate updaters --namespaces 'tenant-*'" in result.out
    assert project.shell.bulkup("status", "--namespaces", "tenant-*", "--check").code == 4
    assert project.shell.bulkup("migrate", "--namespaces", "tenant-*").code == 0
    assert project.shell.bulkup("status", "--namespaces", "tenant-*", "--check").code == 0
    assert trails(project.server.client(namespace="tenant-3")) == {"abc"}


def test_status_shows_and_checks_every_namespace(embedded_project: Project) -> None:
    project = embedded_project
    check = ("status", *ALL, "--check")
    assert project.shell.bulkup(*check).code == 4
    assert project.shell.bulkup("migrate", "--namespaces", "tenant-*").code == 0
    assert project.shell.bulkup("migrate", "--to", "0002").code == 0
    shown = project.shell.bulkup(*check)
    assert shown.code == 4
    assert "1 namespace of 4 not up to date." in shown.out
    told = project.shell.bulkup(*check, "--json")
    assert told.of_type("status")[0]["namespaces"] == {
        "": False, "tenant-1": True, "tenant-2": True, "tenant-10": True,
    }  # fmt: skip
    live_markers = {(m["namespace"], m["name"]): m["standing"] for m in told.of_type("migration")}
    assert live_markers["", "0003_c"] == "pending"
    assert live_markers["tenant-2", "0003_c"] == "applied"
    assert project.shell.bulkup("migrate").code == 0
    assert project.shell.bulkup(*check).code == 0


@pytest.mark.parametrize("command", ["migrate", "status"])
def test_one_namespace_and_many_exclude_each_other(embedded_project: Project, command: str) -> None:
    result = embedded_project.shell.bulkup(command, *ALL, "--namespace", "a")
    assert result.code == 2
    assert "--all-namespaces and --namespace cannot be used together" in result.err


def test_the_github_job_page_has_a_row_per_namespace(
    embedded_project: Project, tmp_path: Path
) -> None:
    page = tmp_path / "summary.md"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)}
    assert embedded_project.shell.bulkup("migrate", *ALL, env=env).code == 0
    text = page.read_text()
    assert text.count("| ✅ |") == 12
    assert "12 migrations applied in 4 namespaces" in text


RENAME = """
import os, signal
from google.cloud.datastore import Entity
from bulkup import Updater

class Rename(Updater):
    def get_query(self):
        return self.client.query(kind="Item")

    def handle_entity(self, entity):
        number = entity.key.id
        if os.environ.get("DIE_AT") == f"{number}{entity.key.namespace or ''}":
            os.kill(os.getpid(), signal.SIGKILL)
        renamed = Entity(self.client.key("Item", number + 1000))
        renamed.update(entity)
        self.put(renamed)
        self.delete(entity)
"""


def test_a_migration_that_renames_keys_ends_in_every_namespace(project: Project) -> None:
    """On LF, which does not say when an entity was created, with its state directory."""
    shell = project.shell
    for step in (shell.folder / "updaters").glob("*.py"):
        step.unlink()
    shell.write("updaters/0001_rename.py", RENAME)
    migrate = ("migrate", *ALL, "--batch-size", "3", "--in-flight", "1")
    assert shell.bulkup(*migrate, env={"DIE_AT": "8tenant-1"}).code == -9
    if project.server.name == "EM":
        shutil.rmtree(shell.state_dir)
    result = shell.bulkup(*migrate)
    assert result.code == 0, result
    for namespace in NAMESPACES:
        found = values(project.server.client(namespace=namespace))
        assert sorted(found) == list(range(1001, 1013)), namespace
