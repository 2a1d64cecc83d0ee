"""A rehearsal says what a run does, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest

import bulkup
from bulkup.core.errors import BulkupError, Exit
from bulkup.core.model import RunState
from bulkup.core.rehearsal import Rehearsal, RehearsedWork
from bulkup.rehearsal.from_export import fill_from_export
from bulkup.rehearsal.rehearse import rehearse
from bulkup.rehearsal.request import Migrations, Request
from bulkup.runs.target import TargetOptions
from tests.rehearsal.data import BUMP, LABEL, export_of, items, make_file, request, write

pytestmark = pytest.mark.sampled(9)


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Whatever a test does, no copy is left."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield
    assert os.listdir(scratch) == []


def only(rehearsal: Rehearsal) -> RehearsedWork:
    (work,) = rehearsal.works
    return work


def test_an_idempotent_updater_with_failures(tmp_path: Path) -> None:
    file = items(tmp_path / "items", 70)
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    rehearsal = rehearse(request(write(tmp_path, "label.py", LABEL), file, kills=5))
    work = only(rehearsal)
    assert rehearsal.exit_code == Exit.DONE_WITH_FAILURES
    assert (work.counts.handled, work.counts.written, work.counts.failed) == (70, 60, 10)
    assert (work.effect.changed, work.effect.created, work.effect.deleted) == (60, 0, 0)
    (group,) = work.runs[0].failure_groups
    assert group.count == 10
    assert group.keys[0] == "Key('Item', 3)"
    assert work.is_idempotent is True
    assert work.claims_idempotent is True
    assert work.second is not None
    assert work.second.runs[0].counts.unchanged == 60
    crash = work.crash
    assert crash is not None
    assert crash.is_same
    assert len(crash.kills) == 5
    assert [kill.writes for kill in crash.kills] == sorted(kill.writes for kill in crash.kills)
    assert crash.kills[0].writes == 0
    assert crash.kills[-1].writes == 60
    # About five entities in a commit, and one commit at a time.
    assert [0 < kill.writes < 60 for kill in crash.kills] == [False, True, True, True, False]
    (label,) = work.effect.properties
    assert (label.kind, label.name, label.changed) == ("Item", "label", 60)
    assert label.before.types == (("absent", 60),)
    assert label.after.types == (("string", 60),)
    assert label.after.distinct == 60
    assert label.after.least == "'no. 1'"
    # Every entity is read once and written once; the rest is bulkup's own.
    assert work.bill is not None
    reads, writes, deletes, _ = (line.count.count for line in work.bill.lines)
    assert 70 <= reads <= 85
    assert 60 <= writes <= 75
    assert deletes <= 15
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    assert rehearsal.source.kinds == (("Item", 70),)


def test_what_is_not_idempotent_is_told_and_a_crash_still_does_no_harm(tmp_path: Path) -> None:
    file = items(tmp_path / "items", 20)
    work = only(rehearse(request(write(tmp_path, "bump.py", BUMP), file, kills=3)))
    assert work.is_idempotent is False
    assert not work.breaks_promise
    assert work.second is not None
    assert work.second.effect.changed == 20
    assert work.crash is not None
    assert work.crash.is_same
    assert len(work.crash.kills) == 3
    assert work.exit_code == Exit.DONE


def test_idempotent_true_that_is_false_exits_with_4(tmp_path: Path) -> None:
    file = items(tmp_path / "items", 5)
    source = BUMP.replace('kind="Item"', 'kind="Item", idempotent=True')
    work = only(rehearse(request(write(tmp_path, "bump.py", source), file, kills=0)))
    assert work.breaks_promise
    assert work.exit_code == Exit.PENDING
    assert work.crash is None


def test_what_a_crash_changes_is_found(tmp_path: Path) -> None:
    """The handler counts in a file beside, which a killed process leaves half-done."""
    file = items(tmp_path / "items", 12)
    spec = write(
        tmp_path, "counts.py",
        """
        import bulkup

        seen = 0

        @bulkup.updater(kind="Item")
        def number(entity):
            global seen
            seen += 1  # lost with the process
            entity["number"] = seen
            return entity
        """,
    )  # fmt: skip
    work = only(rehearse(request(spec, file)))
    assert work.crash is not None
    assert work.crash.was_killed_between(12)
    assert not work.crash.is_same
    assert work.crash.effect.changed
    assert not work.crash.varying
    assert {one.name for one in work.crash.effect.properties} == {"number"}
    assert work.exit_code == Exit.PENDING


def test_what_the_updater_has_started_ends_with_its_pass(tmp_path: Path) -> None:
    """It would keep the copies, and what it holds of a killed run would keep that from resuming."""
    file = items(tmp_path / "items", 4)
    spec = write(
        tmp_path, "forks.py",
        f"""
        import os, time
        import bulkup

        @bulkup.updater(kind="Item")
        def forks(entity):
            pid = os.fork()
            if not pid:
                while True:
                    time.sleep(60)
            with open({str(tmp_path / "pids")!r}, "a") as file:
                print(pid, file=file)
            entity["label"] = "x"
            return entity
        """,
    )  # fmt: skip
    work = only(rehearse(request(spec, file, kills=1, second=False)))
    assert work.crash is not None
    assert work.crash.is_same, work.crash.unlike
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) >= 8
    assert not [pid for pid in pids if is_alive(int(pid))]


def test_what_a_process_has_printed_before_its_death_is_shown_without_secrets(
    tmp_path: Path,
) -> None:
    spec = write(
        tmp_path, "exits.py",
        """
        import os
        import bulkup

        @bulkup.updater(kind="Item")
        def exits(entity):
            print("no licence, password=hunter2", flush=True)
            os._exit(7)
        """,
    )  # fmt: skip
    with pytest.raises(BulkupError, match="exit code 7") as caught:
        rehearse(request(spec, items(tmp_path / "items", 2)))
    assert "no licence, password=[removed]" in caught.value.details


def is_alive(pid: int) -> bool:
    """A zombie is not: whoever adopted it has not looked yet."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def test_new_entities_may_have_other_ids_and_times_each_time(tmp_path: Path) -> None:
    file = items(tmp_path / "items", 12)
    spec = write(
        tmp_path, "audit.py",
        """
        import time
        from bulkup import Updater
        from google.cloud.datastore import Entity

        class Audit(Updater):
            def get_query(self):
                return self.client.query(kind="Item")

            def handle_entity(self, entity):
                note = Entity(self.client.key("Note"))
                note["about"] = entity.key
                entity["seen"] = time.time_ns()
                self.put([entity, note])
        """,
    )  # fmt: skip
    work = only(rehearse(request(spec, file)))
    assert work.effect.created == 12
    assert work.effect.changed == 12
    assert work.crash is not None
    assert work.crash.is_same, work.crash
    assert work.crash.varying == ("Item.seen",)
    assert work.second is not None
    assert work.second.effect.created == 12


def test_a_chain_is_rehearsed_to_its_end(tmp_path: Path) -> None:
    file = items(tmp_path / "items", 10)
    write(tmp_path, "second.py", LABEL.replace("7 == 3", "7 == 9"))
    first = BUMP.replace('kind="Item"', 'kind="Item", then="second.py"')
    work = only(rehearse(request(write(tmp_path, "first.py", first), file)))
    assert [run.updater for run in work.runs] == ["bump", "label"]
    assert work.counts.handled == 20
    assert work.crash is not None
    assert work.crash.is_same, work.crash
    assert sum(run.counts.handled for run in work.crash.runs) == 20


def test_a_run_that_stops_is_reported_and_goes_no_further(tmp_path: Path) -> None:
    file = items(tmp_path / "items", 20)
    source = LABEL.replace("max_failures=10", "max_failures=0")
    work = only(rehearse(request(write(tmp_path, "label.py", source), file)))
    assert work.runs[0].state is RunState.FAILED
    assert work.exit_code == Exit.FAILED
    assert work.second is None
    assert work.crash is None


def test_check_after_decides(tmp_path: Path) -> None:
    file = items(tmp_path / "items", 3)
    spec = write(
        tmp_path, "checked.py",
        """
        from bulkup import Updater

        class Checked(Updater):
            def get_query(self):
                return self.client.query(kind="Item")

            def handle_entity(self, entity):
                self.put(entity)

            def check_after(self, client):
                return "there are Items left"
        """,
    )  # fmt: skip
    work = only(rehearse(request(spec, file)))
    assert not work.finished
    assert work.exit_code == Exit.FAILED
    assert "there are Items left" in (work.error or work.runs[0].reason)


@pytest.mark.parametrize(
    ("name", "source", "code"),
    [
        ("missing.py", None, Exit.NOT_FOUND),
        ("broken.py", "import nothing_of_that_name", Exit.FAILED),
        ("exits.py", "import os; os._exit(7)", Exit.FAILED),
    ],
)
def test_an_updater_that_cannot_be_run(
    tmp_path: Path, name: str, source: str | None, code: Exit
) -> None:
    file = items(tmp_path / "items", 1)
    spec = str(tmp_path / name) if source is None else write(tmp_path, name, source)
    with pytest.raises(BulkupError) as raised:
        rehearse(request(spec, file))
    assert raised.value.exit_code == code


def test_migrations_are_rehearsed_each_on_what_the_others_leave(tmp_path: Path) -> None:
    file = items(tmp_path / "items", 6)
    write(tmp_path, "updaters/0001_bump.py", BUMP)
    write(tmp_path, "updaters/0002_label.py", LABEL.replace("7 == 3", "7 == 2"))
    write(tmp_path, "updaters/0003_fails.py", LABEL.replace("max_failures=10", "max_failures=0"))
    write(tmp_path, "updaters/0004_never.py", BUMP)
    what = Migrations(str(tmp_path / "updaters"))
    rehearsal = rehearse(Request(what, str(file), kills=2))
    assert [work.name for work in rehearsal.works] == ["0001_bump", "0002_label", "0003_fails"]
    assert rehearsal.left == ("0004_never",)
    bump, label, fails = rehearsal.works
    assert bump.finished
    assert bump.is_idempotent is False
    assert label.counts.written == 5
    assert label.counts.failed == 1
    assert label.runs[0].failure_groups[0].keys == ("Key('Item', 1)",)
    assert all(one.crash is not None and one.crash.is_same for one in (bump, label))
    assert fails.exit_code == Exit.FAILED
    assert rehearsal.exit_code == Exit.FAILED


def test_entities_of_all_namespaces_are_compared(tmp_path: Path) -> None:
    file = make_file(tmp_path / "items", [{"__key__": ["Item", 1], "n": 1}])
    spec = write(
        tmp_path, "elsewhere.py",
        """
        from bulkup import Updater
        from google.cloud.datastore import Entity

        class Elsewhere(Updater):
            def get_query(self):
                return self.client.query(kind="Item")

            def handle_entity(self, entity):
                copy = Entity(self.client.key("Item", entity.key.id, namespace="other"))
                copy.update(entity)
                self.put(copy)
                self.delete(entity)
        """,
    )  # fmt: skip
    work = only(rehearse(request(spec, file, kills=1)))
    assert (work.effect.created, work.effect.deleted) == (1, 1)
    created = next(kind for kind in work.effect.kinds if kind.action == "create")
    assert "namespace='other'" in created.examples[0].key


def test_an_export_is_rehearsed_as_the_run_on_what_it_loads(tmp_path: Path) -> None:
    folder = export_of(
        tmp_path / "night", [{"__key__": ["Item", n], "n": n} for n in range(1, 15)], "shop"
    )
    spec = write(tmp_path, "label.py", LABEL)
    target = TargetOptions(project="shop")
    wanted = request(
        spec, folder, target=target, fill=fill_from_export(str(folder), target), kills=1
    )
    rehearsal = rehearse(wanted)
    work = only(rehearsal)
    assert rehearsal.source.is_export
    assert rehearsal.source.kinds == (("Item", 14),)
    assert rehearsal.source.target.project == "shop"
    assert (work.counts.written, work.counts.failed) == (12, 2)
    half = request(
        spec, folder, target=target, fill=fill_from_export(str(folder), target, 0.5),
        sample="50%", kills=0, second=False,
    )  # fmt: skip
    sampled = rehearse(half)
    assert 0 < sampled.source.entities < 14
    assert only(sampled).counts.handled == sampled.source.entities


@pytest.mark.parametrize("where", ["nothing", "empty"])
def test_what_is_not_an_export_is_one_sentence(tmp_path: Path, where: str) -> None:
    (tmp_path / "empty").mkdir()
    source = str(tmp_path / where)
    spec = write(tmp_path, "bump.py", BUMP)
    wanted = request(spec, Path(source), fill=fill_from_export(source, TargetOptions()))
    with pytest.raises(BulkupError) as raised:
        rehearse(wanted)
    assert raised.value.exit_code == Exit.USAGE


def test_work_that_is_to_be_done_once_and_was_done_does_nothing(tmp_path: Path) -> None:
    file = items(tmp_path / "items", 4)
    spec = write(tmp_path, "label.py", BUMP.replace('kind="Item"', 'kind="Item", once=True'))
    report = bulkup.run(spec, local=str(file), state_dir=tmp_path / "state")
    assert report.counts.written == 4
    work = only(rehearse(request(spec, file, kills=1)))
    assert (work.counts.handled, work.effect.differs) == (0, False)
    assert work.runs[0].reason == f"already done as {report.run_id}"
    assert "so a run does nothing" in work.runs[0].warnings[0]
