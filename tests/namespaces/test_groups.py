"""The group record: of several processes that start the same work, one creates it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bulkup.core.errors import HeldError, StateError, UsageError
from bulkup.core.model import TargetInfo
from bulkup.datastore.rpc import Rpc
from bulkup.engine.options import Options
from bulkup.namespaces.find import find_namespaces
from bulkup.namespaces.group_run import run_in_namespaces
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import load_updater
from bulkup.runs.target import TargetOptions, open_target
from bulkup.state import groups as module
from bulkup.state.groups import Group, Groups, identity_of
from bulkup.state.kinds import GROUP_KIND
from bulkup.state.raw_entities import read_properties
from tests.conftest import Server
from tests.namespaces.conftest import NAMESPACES, Tenants

GROUP = Group("g1", "Bump", {"a": "1"}, "*", ("", "b"), "2026-01-02T03:04:05+00:00", "ann@far")


@pytest.fixture
def groups(server: Server) -> Groups:
    return Groups(Rpc(server.client()), TargetInfo(server.project), identity_of("x", {}, "*"))


def test_the_second_process_gets_the_group_of_the_first(groups: Groups) -> None:
    assert groups.read() is None
    mine = groups.begin(GROUP)
    assert replace(mine, version=0) == GROUP
    assert groups.begin(replace(GROUP, group_id="g2", namespaces=("c",))) == mine
    assert groups.read() == mine


def test_an_adopted_run_is_recorded(groups: Groups) -> None:
    group = groups.adopt(groups.begin(GROUP), "b", "other")
    assert groups.read() == group
    assert (group.run_id("b"), group.run_id("")) == ("other", "g1@")


def test_a_stale_write_is_refused(groups: Groups) -> None:
    early = groups.begin(GROUP)
    groups.adopt(early, "b", "other")
    with pytest.raises(HeldError, match="same namespaces"):
        groups.adopt(early, "b", "mine")
    with pytest.raises(HeldError):
        groups.begin(replace(early, group_id="g3", fresh=True))


def test_only_the_own_group_can_be_ended(groups: Groups) -> None:
    group = groups.begin(GROUP)
    groups.end(replace(group, group_id="of before"))
    assert groups.read() == group
    groups.end(group)
    groups.end(group)
    assert groups.read() is None


def test_too_many_namespaces_are_refused_with_advice(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LIST_BYTES", 10)
    with pytest.raises(UsageError, match="some of them at a time"):
        groups.begin(GROUP)
    assert groups.read() is None


def test_a_hundred_thousand_numbered_tenants_fit_in_a_record() -> None:
    names = tuple(f"tenant-{i:06d}" for i in range(100_000))
    target = TargetInfo("p")
    entity = Groups(None, target, "i")._entity(replace(GROUP, namespaces=names))  # type: ignore[arg-type]
    assert len(read_properties(entity)["names"]) < module.MAX_LIST_BYTES


def test_a_record_of_another_version_is_reported(groups: Groups, server: Server) -> None:
    groups.begin(GROUP)
    client = server.client()
    (stored,) = client.query(kind=GROUP_KIND).fetch()
    del stored["adopted"]
    client.put(stored)
    with pytest.raises(StateError, match="another version of bulkup"):
        groups.read()


def test_the_identity_does_not_depend_on_the_folder_of_the_file() -> None:
    assert identity_of("/a/x.py:B", {"p": "1"}, "*") == identity_of("/b/x.py:B", {"p": "1"}, "*")
    assert identity_of("/a/x.py:B", {"p": "1"}, "*") != identity_of("/a/x.py:B", {"p": "1"}, "t*")
    assert identity_of("/a/x.py:B", {"p": "1"}, "*") != identity_of("/a/x.py:B", {"p": "2"}, "*")


def test_an_invalid_folder_name_is_not_part_of_a_run_id() -> None:
    assert "/" not in GROUP.run_id("a/../b")
    assert GROUP.run_id("a/b") != GROUP.run_id("a.b")


def test_a_kill_before_the_group_ends_runs_nothing_again(
    embedded_tenants: Tenants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenants = embedded_tenants
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", tenants.server.host)
    loaded = load_updater(str(tmp_path / "bump.py"), {})
    context = RunContext(Options(), tmp_path / "state", lambda _: None)

    def die(self: Groups, group: Group) -> None:
        raise KeyboardInterrupt

    with open_target(TargetOptions(tenants.server.project)) as target:
        with monkeypatch.context() as patch:
            patch.setattr(Groups, "end", die)
            with pytest.raises(KeyboardInterrupt):
                run_in_namespaces(loaded, target, "*", context)
        assert tenants.records("", GROUP_KIND)
        report = run_in_namespaces(loaded, target, "*", context)
    assert report.success
    assert [space.counts.puts for space in report.spaces] == [6] * len(NAMESPACES)
    tenants.assert_each_done()


def test_a_group_record_leads_to_no_namespace_that_the_pattern_does_not_match(
    embedded_tenants: Tenants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenants = embedded_tenants
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", tenants.server.host)
    loaded = load_updater(str(tmp_path / "bump.py"), {})
    context = RunContext(Options(), tmp_path / "state", lambda _: None)
    target = TargetInfo(tenants.server.project)
    identity = identity_of(loaded.source.spec, loaded.params, "tenant-?")
    rpc = Rpc(tenants.server.client())
    forged = replace(GROUP, pattern="tenant-?", namespaces=("tenant-1", ""))
    Groups(rpc, target, identity).begin(forged)
    with (
        open_target(TargetOptions(tenants.server.project)) as opened,
        pytest.raises(StateError, match="which 'tenant-\\?' does not match"),
    ):
        run_in_namespaces(loaded, opened, "tenant-?", context)
    assert set(tenants.values()[""]) == {0}


@pytest.mark.parametrize("run_id", ["../outside", "", 5])
def test_a_group_record_with_ids_that_bulkup_did_not_make_is_refused(
    groups: Groups, server: Server, run_id: object
) -> None:
    groups.begin(GROUP)
    client = server.client()
    (stored,) = client.query(kind=GROUP_KIND).fetch()
    stored["adopted"] = json.dumps({"b": run_id})
    client.put(stored)
    with pytest.raises(StateError, match="delete the record"):
        groups.read()


def test_namespaces_are_found_in_natural_order(embedded_tenants: Tenants) -> None:
    rpc = Rpc(embedded_tenants.server.client())
    assert find_namespaces(rpc, "*") == list(NAMESPACES)
    assert find_namespaces(rpc, "tenant-?") == ["tenant-1", "tenant-2"]
    assert find_namespaces(rpc, "T*") == []
    assert find_namespaces(rpc, "*", known=["", "tenant-2"]) == ["tenant-1", "tenant-10"]
