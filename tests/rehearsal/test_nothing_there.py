"""A rehearsal that had nothing to handle has shown nothing, and says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bulkup.core.errors import Exit
from bulkup.core.rehearsal import Rehearsal
from bulkup.core.selection import Selection
from bulkup.rehearsal.from_export import fill_from_export
from bulkup.rehearsal.rehearse import rehearse
from bulkup.rehearsal.request import Migrations, Request, Updater
from bulkup.report.rehearsal_summary import summarize_rehearsal
from bulkup.report.summary_model import Tone
from bulkup.runs.target import TargetOptions
from tests.rehearsal.data import BUMP, LABEL, export_of, items, request, write

NOT_KNOWN = "Not known: nothing was handled."


def answers(rehearsal: Rehearsal) -> dict[str, str]:
    (work,) = summarize_rehearsal(rehearsal).works
    return {answer.name: answer.text for answer in work.answers}


def shows_nothing(rehearsal: Rehearsal) -> None:
    (work,) = rehearsal.works
    assert rehearsal.exit_code == Exit.PENDING
    assert summarize_rehearsal(rehearsal).tone is Tone.BAD
    assert (work.is_idempotent, work.second, work.crash) == (None, None, None)
    found = answers(rehearsal)
    assert found["Outcome"].startswith("Finishes, but the query finds no entities, so nothing was")
    assert found["Outcome"].endswith("add --allow-empty if this is expected.")
    assert found["Safe to run twice"] == found["Safe if it crashes"] == NOT_KNOWN


@pytest.mark.parametrize(
    "changes",
    [
        {"target": TargetOptions(namespace="nope")},
        {"what": Updater("other.py")},
        {"what": Updater("bump.py", selection=Selection(where="n > 1000"))},
        {"what": Updater("bump.py", selection=Selection(ancestor="KEY(Parent, 5)"))},
    ],
    ids=["namespace", "kind", "filter", "ancestor"],
)
def test_a_rehearsal_without_entities_is_not_green(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "bump.py", BUMP)
    write(tmp_path, "other.py", BUMP.replace('kind="Item"', 'kind="Nothing_alike"'))
    wanted = request("bump.py", items(tmp_path / "items", 3))
    wanted = Request(**{**vars(wanted), **changes})
    shows_nothing(rehearse(wanted))


def test_an_export_without_the_kind_is_not_green(tmp_path: Path) -> None:
    folder = export_of(tmp_path / "night", [{"__key__": ["Other", 1], "n": 1}], "shop")
    target = TargetOptions(project="shop")
    spec = write(tmp_path, "bump.py", BUMP)
    fill = fill_from_export(str(folder), target)
    shows_nothing(rehearse(request(spec, folder, target=target, fill=fill)))


def test_who_expects_it_may_say_so(tmp_path: Path) -> None:
    spec = write(tmp_path, "bump.py", BUMP)
    target = TargetOptions(namespace="nope")
    file = items(tmp_path / "items", 3)
    rehearsal = rehearse(request(spec, file, target=target, allow_empty=True))
    assert rehearsal.exit_code == Exit.DONE
    assert answers(rehearsal)["Safe to run twice"] == NOT_KNOWN


def test_of_migrations_the_others_are_rehearsed_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, "updaters/0001_bump.py", BUMP.replace('kind="Item"', 'kind="Nothing_alike"'))
    write(tmp_path, "updaters/0002_label.py", LABEL)
    what = Migrations(str(tmp_path / "updaters"))
    rehearsal = rehearse(Request(what, str(items(tmp_path / "items", 5)), kills=0))
    assert [work.counts.handled for work in rehearsal.works] == [0, 5]
    assert rehearsal.works[1].second is not None
    assert rehearsal.exit_code == Exit.PENDING
    headline = summarize_rehearsal(rehearsal).headline
    assert headline == "2 pending migrations finished, 1 of them without an entity to handle."
