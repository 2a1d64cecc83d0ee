"""The file of a plan: all of it or nothing, and unchanged."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

from bulkup import Updater
from bulkup.core.errors import UsageError
from bulkup.core.plan_json import plan_fields, plan_of
from bulkup.runs.plan_file import read_plan
from tests.conftest import Server
from tests.engine.conftest import fill
from tests.runs.planning import plan_on


class Doubles(Updater):
    """Doubles n, and fails at the third."""

    max_failures = -1

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        if entity["i"] == 3:
            raise ValueError("\ud800 not this one")
        entity["i"] *= 2
        self.put(entity)


@pytest.fixture
def file(embedded: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    fill(embedded, "Thing", 10)
    path = tmp_path / "plan.jsonl"
    plan_on(embedded, Doubles, sample=None, out=path)
    return path


def test_what_was_planned_is_read_again(embedded: Server, file: Path) -> None:
    plan = plan_on(embedded, Doubles, sample=None)
    found = read_plan(file)
    assert (found.changes, found.failures) == (9, 1)
    assert found.plan.predicted == plan.predicted
    assert found.plan.kinds == plan.kinds
    assert found.plan.failure_groups == plan.failure_groups
    assert found.plan.warnings == plan.warnings
    work, again = found.plan.work, plan.work
    assert work.code == again.code != ""
    assert (work.params, work.target, work.fingerprint, work.identity) == (
        again.params, again.target, again.fingerprint, again.identity,
    )  # fmt: skip
    assert plan_of(json.loads(json.dumps(plan_fields(plan)))) == plan


def test_every_write_and_every_failure_is_a_line(file: Path) -> None:
    lines = list(read_plan(file).lines())
    changes = [line for line in lines if line["type"] == "change"]
    assert [line["key"] for line in changes] == [
        f"Key('Thing', {i})" for i in range(1, 11) if i != 3
    ]
    assert changes[0]["values"] == [
        {"name": "i", "before": {"integerValue": "1"}, "after": {"integerValue": "2"}}
    ]
    (failure,) = (line for line in lines if line["type"] == "failure")
    assert failure["typed_key"]["path"] == [["Thing", 3]]


def test_only_its_owner_may_read_it(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def _without_last_line(text: bytes) -> bytes:
    return text[: text[:-1].rindex(b"\n") + 1]


def _newer(text: bytes) -> bytes:
    return text.replace(b'"version": 1', b'"version": 2', 1)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: b"", "is not a plan; `bulkup plan UPDATER --out FILE` writes one"),
        (lambda text: b"{}\n", "is not a plan"),
        (lambda text: b'{"type": "plan", ' + b"[" * 100_000, "is not a plan"),
        (lambda text: b'{"type": "plan", \xff\n', "is not a plan"),
        (_newer, "is a plan of format 2, and this bulkup reads 1; make the plan again"),
        (_without_last_line, "lines are missing or changed; make the plan again"),
        (lambda text: text + b"{}\n", "lines are missing or changed"),
        (lambda text: text.replace(b'"handled": 10', b'"handled": 11'), "missing or changed"),
        (lambda text: text.replace(b'"2"', b'"3"', 1), "lines are missing or changed"),
        (lambda text: text.replace(b'"plan_id"', b'"other"'), "lines are missing or changed"),
    ],
)
def test_a_damaged_or_edited_plan_is_refused(file: Path, damage: Any, says: str) -> None:
    text = file.read_bytes()
    damaged = damage(text)
    assert damaged != text
    file.write_bytes(damaged)
    with pytest.raises(UsageError, match=says):
        read_plan(file)


def test_a_plan_that_is_not_there_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the plan .* \(No such file"):
        read_plan(tmp_path / "plan.jsonl")
    with pytest.raises(UsageError, match="cannot read the plan"):
        read_plan(tmp_path)


def test_an_older_plan_is_replaced_and_no_other_file(embedded: Server, file: Path) -> None:
    before = read_plan(file).plan_id
    plan_on(embedded, Doubles, sample=None, out=file)
    assert read_plan(file).plan_id != before  # made at another time
    file.write_text("import bulkup\n")
    with pytest.raises(UsageError, match="is there and is not a plan; delete it, or name another"):
        plan_on(embedded, Doubles, sample=None, out=file)
    assert file.read_text() == "import bulkup\n"
    with pytest.raises(UsageError, match="there is no folder"):
        plan_on(embedded, Doubles, sample=None, out=file.parent / "no" / "plan.jsonl")
