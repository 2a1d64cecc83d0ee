"""What is wrong with an updater is told before an export is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkup.core.errors import BulkupError, Exit
from bulkup.rehearsal.from_export import fill_from_export
from bulkup.rehearsal.rehearse import rehearse
from bulkup.rehearsal.request import Request, Updater, Watch
from bulkup.runs.target import TargetOptions
from tests.rehearsal.data import BUMP, export_of, write

TARGET = TargetOptions(project="shop")


def filled(_: Path, __: Watch) -> tuple[str, ...]:
    raise AssertionError("the export is loaded")


@pytest.mark.parametrize(
    ("source", "params", "code", "text"),
    [
        ("def (", {}, Exit.FAILED, "line 1 is not valid Python"),
        ("x = 1", {}, Exit.NOT_FOUND, "there is no updater in"),
        (BUMP, {"step": "many"}, Exit.USAGE, "step"),
        (BUMP, {"stop": "1"}, Exit.USAGE, "step"),
        ("import nothing_of_that_name", {}, Exit.FAILED, "install nothing_of_that_name"),
        ("import os; os._exit(7)", {}, Exit.FAILED, "exit code 7"),
        (
            """
            from bulkup import Updater

            class Bad(Updater):
                def __init__(self):
                    raise ValueError("no licence")

                def get_query(self):
                    return self.client.query(kind="Item")

                def handle_entity(self, entity):
                    pass
            """,
            {},
            Exit.FAILED,
            "no licence",
        ),
    ],
)
def test_an_updater_that_cannot_be_loaded_is_told_before_the_export_is(
    tmp_path: Path, source: str, params: dict[str, str], code: Exit, text: str
) -> None:
    spec = write(tmp_path, "bad.py", source)
    wanted = Request(Updater(spec, params), "gs://shop/night", TARGET, fill=filled)
    with pytest.raises(BulkupError, match=text) as raised:
        rehearse(wanted)
    assert raised.value.exit_code == code


def test_an_updater_that_reads_when_it_is_loaded_is_loaded_with_the_data(tmp_path: Path) -> None:
    """Before, it reaches no Datastore: neither one that the environment names, nor another."""
    folder = export_of(tmp_path / "night", [{"__key__": ["Item", 1], "n": 41}], "shop")
    spec = write(
        tmp_path, "reads.py",
        f"""
        import bulkup
        from google.cloud import datastore

        client = datastore.Client()
        with open({str(tmp_path / "addresses")!r}, "a") as file:
            print(client.project, client.base_url, file=file)
        STEP = client.get(client.key("Item", 1))["n"]

        @bulkup.updater(kind="Item")
        def reads(entity):
            entity["n"] += STEP
            return entity
        """,
    )  # fmt: skip
    wanted = Request(
        Updater(spec), str(folder), TARGET, fill=fill_from_export(str(folder), TARGET),
        second=False, kills=0,
    )  # fmt: skip
    (work,) = rehearse(wanted).works
    assert work.counts.written == 1
    seen = (tmp_path / "addresses").read_text().splitlines()
    assert len(seen) == 2
    assert all(line.startswith("shop http://127.0.0.1:") for line in seen), seen
    assert len(set(seen)) == 2


def test_a_write_when_it_is_loaded_reaches_nothing(tmp_path: Path) -> None:
    spec = write(
        tmp_path, "writes.py",
        """
        from google.cloud import datastore

        client = datastore.Client()
        client.put(datastore.Entity(client.key("Item", 1)))
        raise LookupError("it was written")
        """,
    )  # fmt: skip

    class FilledError(Exception):
        pass

    def fill(_: Path, __: Watch) -> tuple[str, ...]:
        raise FilledError

    with pytest.raises(FilledError):
        rehearse(Request(Updater(spec), "gs://shop/night", TARGET, fill=fill))
