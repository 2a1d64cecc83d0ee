"""Bundles: made and read again, with nothing private in them; strange files are refused in one
sentence."""

from __future__ import annotations

import io
import json
import random
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import bulkup
from bulkup.core.errors import UsageError
from bulkup.core.vitals import Phase, Sample
from bulkup.report import summarize, summary_text
from bulkup.report.log_text import log_fields, log_text
from bulkup.report.page import render_page
from bulkup.runs.bundle import _asked, make_bundle, opened_bundle
from bulkup.runs.bundle_file import FORMAT, PARTS, write_bundle
from bulkup.runs.run_facts import run_facts
from bulkup.state.run_log_reader import read_log
from bulkup.state.timeline import TIMELINE_NAME, line_of
from tests.conftest import Server
from tests.engine.conftest import Run, fill
from tests.report.samples import HOSTILE

pytestmark = pytest.mark.sampled(5)

PRIVATE = ("Marley", "hunter2", "079123", "ann@example", "acme", "Grüezi")


@bulkup.updater(kind="City", max_failures=-1)
def visit(entity, *, word: str = "Grüezi Marley", password: str = "hunter2"):  # type: ignore[no-untyped-def]
    """Visit them."""
    if entity["i"] == 2:
        raise ValueError(f"no phone for Marley 0791234567 {HOSTILE}")
    entity["seen"] = word
    return entity


class Logs(bulkup.Updater):
    max_failures = -1

    def get_query(self):  # type: ignore[no-untyped-def]
        return self.client.query(kind="City")

    def handle_entity(self, entity):  # type: ignore[no-untyped-def]
        self.log(f"Marley ann@example.com {HOSTILE}")
        if entity["i"] == 3:
            raise ValueError("Marley: acme")
        entity["n"] = 1
        self.put(entity)


@pytest.fixture
def folder(embedded: Server, run: Run, tmp_path: Path) -> Path:
    fill(embedded, "City", 4)
    report = run(embedded, visit, batch_size=2, where="i < 100 AND i != 99")
    return tmp_path / "state" / report.run_id


def test_a_bundle_has_nothing_private_and_tells_what_happened(
    folder: Path, embedded: Server, run: Run, tmp_path: Path
) -> None:
    logs = run(embedded, Logs)
    for one in (folder, folder.with_name(logs.run_id)):
        path = tmp_path / "bundle.zip"
        write_bundle(path, make_bundle(one))
        assert path.stat().st_mode & 0o777 == 0o600
        with zipfile.ZipFile(path) as archive:
            assert tuple(archive.namelist()) == PARTS
            text = "".join(archive.read(name).decode() for name in PARTS)
        decoded = text.encode().decode("unicode_escape", "replace")
        for private in (*PRIVATE, embedded.project, str(tmp_path), "\x1b[2J", "alert(1)"):
            assert private not in text, private
            assert private not in decoded, private
        original = run_facts(one)
        with opened_bundle(path) as opened:
            facts = run_facts(opened)
            kinds = [entry.kind for entry in read_log(opened)]
        assert not opened.exists()
        report = facts.report
        assert report.run_id == original.report.run_id
        assert report.counts == original.report.counts
        assert (report.state, report.exit_code) == (
            original.report.state, original.report.exit_code,
        )  # fmt: skip
        assert (report.started, report.ended) == (original.report.started, original.report.ended)
        assert [group.count for group in report.failure_groups] == [1]
        assert report.log_total == original.report.log_total
        assert facts.samples == original.samples
        assert kinds == [entry.kind for entry in read_log(one)]
        assert (report.next_command, report.state_file) == ("", "")


def test_what_a_health_check_says_is_the_users(embedded: Server, run: Run, tmp_path: Path) -> None:
    fill(embedded, "City", 4)
    says = "echo Marley owes acme money >&2; exit 1"
    report = run(embedded, visit, health_cmd=says, max_hold_s=0.3)
    assert "Marley owes acme" in report.reason
    folder = tmp_path / "state" / report.run_id
    held = Sample(at=1.0, runner=1, phase=Phase.HELD, why=report.reason.partition(": ")[2])
    with (folder / TIMELINE_NAME).open("a") as file:
        file.write(line_of(held))
    for name, part in make_bundle(folder).parts.items():
        for private in (b"Marley", b"owes", b"acme", b"money"):
            assert private not in part, (name, part)
    assert b"Marley owes acme" in make_bundle(folder, with_values=True).parts["timeline.jsonl"]


def test_frames_and_the_type_of_the_error_stay(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    write_bundle(path, make_bundle(folder))
    with opened_bundle(path) as opened:
        (failure,) = run_facts(opened).report.failures
    assert failure.error.startswith("ValueError: [")
    assert 'File "test_bundle.py", line ' in failure.traceback


def test_the_same_run_makes_the_same_bundle(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    for path in (first, second):
        write_bundle(path, make_bundle(folder))
    assert first.read_bytes() == second.read_bytes()


def test_values_stay_if_asked_for_and_secrets_do_not(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    write_bundle(path, make_bundle(folder, with_values=True))
    with opened_bundle(path) as opened:
        report = run_facts(opened).report
    assert report.params == {"word": "Grüezi Marley", "password": "[removed]"}
    assert report.failures[0].key == "Key('City', 2)"
    assert "0791234567" in report.failures[0].error
    with zipfile.ZipFile(path) as archive:
        assert b"hunter2" not in b"".join(archive.read(name) for name in PARTS)


# --- strange files ---


def packed(parts: dict[str, bytes], **options: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", options.get("compression", zipfile.ZIP_DEFLATED)) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def parts_of(folder: Path, **changes: bytes | None) -> dict[str, bytes]:
    bundle = make_bundle(folder)
    head = {"format": FORMAT, "bulkup": "0.1", "run_id": bundle.run_id, "values": False}
    parts = {"bundle.json": json.dumps(head).encode(), **bundle.parts}
    for name, content in changes.items():
        parts[name.replace("_json", ".json")] = content or b""
    return parts


def is_refused(path: Path, says: str) -> None:
    with pytest.raises(UsageError) as caught, opened_bundle(path):
        pass
    assert says in caught.value.message
    assert "\n" not in caught.value.message


def test_what_is_not_a_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    is_refused(path, "cannot read")
    is_refused(tmp_path, "cannot read")
    for content in (b"", b"PK", b"#!/bin/sh", packed({"a.txt": b"x"}), b"PK\x03\x04" + b"x" * 60):
        path.write_bytes(content)
        is_refused(path, "is not a bundle of bulkup")


def test_a_bundle_that_is_cut_or_changed_anywhere_is_read_or_refused(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.zip"
    whole = packed(parts_of(folder))
    for cut in range(60, len(whole), 101):
        path.write_bytes(whole[:cut])
        is_refused(path, "damaged")
    for place in range(45, len(whole), 53):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with suppress(UsageError), opened_bundle(path) as opened:
            run_facts(opened)


def test_bombs_and_names_that_lead_elsewhere_do_no_harm(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(packed(parts_of(folder, run_json=b" " * 12_000_000)))
    assert path.stat().st_size < 1_000_000
    is_refused(path, "damaged")
    parts = parts_of(folder)
    path.write_bytes(
        packed({**parts, "../../evil": b"x", "/etc/evil": b"x", "huge": b"0" * 12_000_000})
    )
    with opened_bundle(path) as opened:
        assert not list(opened.parent.parent.glob("evil"))
    path.write_bytes(packed({**parts, **{f"n{number}": b"" for number in range(200)}}))
    is_refused(path, "damaged")


@pytest.mark.parametrize("run_id", ["../../x", "/tmp/x", "", "a/b", "x" * 300, "other"])
def test_an_id_that_leads_elsewhere_is_refused(folder: Path, tmp_path: Path, run_id: str) -> None:
    path = tmp_path / "x.zip"
    head = {"format": FORMAT, "bulkup": "0.1", "run_id": run_id, "values": False}
    path.write_bytes(packed({**parts_of(folder), "bundle.json": json.dumps(head).encode()}))
    is_refused(path, "damaged")


@pytest.mark.parametrize(
    "run_json",
    [
        b"", b"null", b"[]", b"{}", b"5", b"[" * 100_000, b'{"run_info": {}, "facts": {}}', b"\xff",
    ],
)  # fmt: skip
def test_other_content_is_refused(folder: Path, tmp_path: Path, run_json: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(packed(parts_of(folder, run_json=run_json)))
    is_refused(path, "damaged")


def test_a_bundle_of_a_later_version_says_so(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    head = {"format": 2, "bulkup": "9.0\x1b[2J", "run_id": "x", "values": False}
    path.write_bytes(packed({"bundle.json": json.dumps(head).encode()}))
    is_refused(path, "was made by bulkup '9.0\\x1b[2J', in a form that this version")


def test_an_encrypted_or_doubled_member_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    data = bytearray(packed(parts_of(folder)))
    data[6] |= 1
    central = data.index(b"PK\x01\x02")
    data[central + 8] |= 1
    path.write_bytes(data)
    is_refused(path, "damaged")
    file = io.BytesIO(packed(parts_of(folder)))
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("run.json", b"{}")
    path.write_bytes(file.getvalue())
    is_refused(path, "damaged")


STRANGE = (None, "x", "", -1, 10**30, 1e308, float("nan"), True, [], [1], {}, {"x": 1}, "\x1b[2J")


def leaves(part: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(part, dict):
        return found + [leaf for name in part for leaf in leaves(part[name], (*path, name))]
    if isinstance(part, list):
        return found + [leaf for n, one in enumerate(part) for leaf in leaves(one, (*path, n))]
    return found


@pytest.mark.parametrize("seed", [*range(2), pytest.param(None, marks=pytest.mark.slow)])
def test_whatever_a_value_is_replaced_by_the_bundle_is_shown_or_refused(
    folder: Path, tmp_path: Path, seed: int | None
) -> None:
    """Each one with each strange value at night, some every day."""
    whole = parts_of(folder)
    cases = [
        (name, number, path, value)
        for name in ("run.json", "failures.jsonl", "events.jsonl", "timeline.jsonl")
        for number, line in enumerate(lines_of(whole[name], name))
        for path in leaves(json.loads(line))
        for value in STRANGE
    ]
    if seed is not None:
        cases = random.Random(seed).sample(cases, 15)
    refused = 0
    for name, number, path, value in cases:
        lines = lines_of(whole[name], name)
        content = json.loads(lines[number])
        inner = content
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        lines[number] = json.dumps(content).encode()
        (tmp_path / "x.zip").write_bytes(packed({**whole, name: b"\n".join(lines)}))
        try:
            with opened_bundle(tmp_path / "x.zip") as opened:
                facts = run_facts(opened)
                shown = summary_text(summarize(facts.report)) + render_page(facts)
                shown += "".join(map(log_text, read_log(opened)))
                assert "\x1b" not in shown
                assert all(log_fields(entry) is not False for entry in read_log(opened))
        except UsageError:
            refused += 1
    assert refused < len(cases)


def lines_of(content: bytes, name: str) -> list[bytes]:
    return [content] if name.endswith(".json") else content.splitlines()


def test_a_health_check_is_left_out() -> None:
    asked = _asked({"health_cmd": "curl -H token", "max_rate": "20", "in_flight": 3})
    assert asked == {"max_rate": "20", "in_flight": 3}
