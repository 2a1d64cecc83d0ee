"""The file of `bulkup verify --out`: progress, findings, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.core.errors import BulkupError, Exit, MismatchError, UsageError
from bulkup.core.events import Event, Found
from tests.conftest import Server
from tests.engine.conftest import fill
from tests.runs.conftest import Verify, double, keys_of, named


class Killed(BaseException):
    pass


def test_killed_at_any_place_it_continues_and_ends_with_the_same_findings(
    embedded: Server, check: Verify, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 120, twice=lambda i: 2 * i if i % 10 else 0)
    expected = {f"Key('Thing', {i})" for i in range(10, 121, 10)}

    def killed_after(count: int) -> Any:
        left = [count]

        def listen(event: Event) -> None:
            if isinstance(event, Found):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed

        return listen

    for count in (0, 1, 5, 11):
        out = tmp_path / f"left{count}.jsonl"
        options = {"out": out, "batch_size": 7, "shards": 2}
        with pytest.raises(Killed):
            check(embedded, double, listener=killed_after(count), **options)
        first = out.read_bytes()
        assert first.startswith(b'{"type": "verify"')
        out.write_bytes(first + b'{"type": "find')  # a line that a killed process left behind
        report = check(embedded, double, **options)
        assert (report.counts.handled, report.counts.failed) == (120, 12), count
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert sorted(line["key"] for line in lines) == sorted(expected)
        assert all(line["typed_key"]["path"][0][0] == "Thing" for line in lines)
        assert out.stat().st_mode & 0o777 == 0o600


def test_a_limit_stops_with_75_and_the_same_file_continues(
    embedded: Server, check: Verify, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 50, twice=lambda i: 2 * i if i < 50 else 0)
    out = tmp_path / "left.jsonl"
    stopped = check(embedded, double, out=out, limit=20, batch_size=10)
    assert (stopped.exit_code, stopped.counts.handled) == (Exit.LIMIT, 20)
    report = check(embedded, double, out=out, limit=1000)
    assert (report.exit_code, report.counts.handled) == (Exit.PENDING, 50)
    assert keys_of(report) == named(50)
    # Complete: the same command begins again.
    again = check(embedded, double, out=out)
    assert again.counts.handled == 50
    assert out.read_text().count("finding") == 1


def test_what_was_found_before_a_limit_is_said_with_4(embedded: Server, check: Verify) -> None:
    fill(embedded, "Thing", 50)
    report = check(embedded, double, limit=3)
    assert (report.exit_code, report.counts.handled, report.counts.failed) == (Exit.PENDING, 3, 3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Key('Thing', 1)\n", "is not a file of `bulkup verify`, so it is left as it is"),
        (b"\n\nprecious", "is not a file of `bulkup verify`"),
        (b"\x00\xff", "is not a file of `bulkup verify`"),
        (b'{"type": "verify", "identity": 1}\n', "line 1 of .* is damaged"),
    ],
)
def test_a_file_of_something_else_is_left_as_it_is(
    embedded: Server, check: Verify, tmp_path: Path, content: bytes, says: str
) -> None:
    fill(embedded, "Thing", 1)
    out = tmp_path / "precious"
    out.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        check(embedded, double, out=out)
    assert out.read_bytes() == content


def unfinished(embedded: Server, check: Verify, out: Path) -> None:
    fill(embedded, "Thing", 20, twice=0)
    stopped = check(embedded, double, out=out, limit=10, batch_size=5)
    assert stopped.counts.handled == 10


def test_an_unfinished_file_of_other_work_is_refused(
    embedded: Server, check: Verify, tmp_path: Path
) -> None:
    out = tmp_path / "left.jsonl"
    unfinished(embedded, check, out)
    before = out.read_bytes()

    @bulkup.updater(kind="Thing")
    def other(entity: Entity) -> Entity:
        return entity

    with pytest.raises(MismatchError, match="unfinished verification of another updater"):
        check(embedded, other, out=out)
    lines = out.read_text().splitlines()
    elsewhere = Server(embedded.name, embedded.host, embedded.project + "x")
    fill(elsewhere, "Thing", 1)
    with pytest.raises(MismatchError, match="another target"):
        check(elsewhere, double, out=out)
    assert out.read_bytes() == before
    lines[2] = "nonsense"
    out.write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError, match=r"line 3 of .* is damaged"):
        check(embedded, double, out=out)


def test_two_processes_do_not_write_one_file(
    embedded: Server, check: Verify, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 1)
    out = tmp_path / "left.jsonl"
    raised: list[BulkupError] = []

    def again(event: Event) -> None:
        if type(event).__name__ == "RunStarted":
            with pytest.raises(BulkupError, match="another process writes to") as error:
                check(embedded, double, out=out)
            raised.append(error.value)

    assert check(embedded, double, out=out, listener=again).counts.handled == 1
    assert raised[0].exit_code is Exit.HELD
