from __future__ import annotations

import os
from pathlib import Path

from bulkup.core.events import Report
from bulkup.core.run_facts import RunFacts
from bulkup.report import Delivery, summarize
from bulkup.report import save_report as save_files
from bulkup.report.save import MOST_MAILED_BYTES, page_to_mail
from tests.report.samples import ENDED, RESUME, dangers, hostile_report, interrupted, report
from tests.report.timelines import facts, timeline


def save_report(ended: Report, folder: Path) -> Delivery:
    return save_files(summarize(ended), RunFacts(ended, ENDED), folder)


def test_the_report_is_saved_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "x"
    old = os.umask(0)
    try:
        saved = save_report(interrupted(), folder)
    finally:
        os.umask(old)
    assert saved.ok
    assert str(folder / "report.txt") in saved.message
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.txt"]
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "report.txt").read_text().startswith("Interrupted; nothing is lost.")
    assert RESUME in (folder / "report.html").read_text()


def test_a_later_report_replaces_the_earlier_one(tmp_path: Path) -> None:
    save_report(interrupted(), tmp_path)
    save_report(report(), tmp_path)
    assert (tmp_path / "report.txt").read_text().startswith("Finished: 34,006")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_in_the_folder_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "report.txt").symlink_to(victim)
    assert save_report(report(), folder).ok
    assert victim.read_text() == "precious"
    assert not (folder / "report.txt").is_symlink()


def test_hostile_strings_are_saved_harmless(tmp_path: Path) -> None:
    assert save_report(hostile_report(), tmp_path).ok
    for name in ("report.txt", "report.html"):
        assert not dangers((tmp_path / name).read_text())


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file\x1b[2J"
    blocked.write_text("")
    saved = save_report(report(), blocked / "run")
    assert not saved.ok
    assert saved.message.startswith("The report could not be saved in ")
    assert not dangers(saved.message)


def test_a_failed_save_leaves_no_scraps(tmp_path: Path) -> None:
    (tmp_path / "report.txt").mkdir()
    assert not save_report(report(), tmp_path).ok
    assert [path.name for path in tmp_path.iterdir()] == ["report.txt"]


def test_a_page_that_cannot_be_written_is_a_sentence_next_to_the_text(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    saved = save_report(report(), tmp_path)
    assert not saved.ok
    assert "report.html could not be written: Is a directory" in saved.message
    assert (tmp_path / "report.txt").exists()


def test_a_mailed_page_has_no_values_of_entities() -> None:
    page = page_to_mail(facts())
    assert page is not None
    assert b"Ada Lovelace" not in page
    assert b"Values of entities are not mailed" in page


def test_a_page_too_large_for_a_mail_is_not_mailed() -> None:
    warnings = tuple(f"{number} {'x' * 2000}" for number in range(1000))
    assert page_to_mail(facts(report=report(warnings=warnings))) is None
    page = page_to_mail(facts(samples=timeline(2000)))
    assert page is not None
    assert len(page) < MOST_MAILED_BYTES / 2
