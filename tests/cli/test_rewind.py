"""`bulkup rewind`: after an accident all is as it was, and nobody's later work is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore

from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import BUMP, Result, Shell, contents, entity, put, seed, user_data
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)

COUNT = 400
EDITED = range(20, 401, 20)
"""5 % of the entities."""


def now() -> str:
    return datetime.now(timezone.utc).isoformat()


@pytest.fixture(params=["EM", "FS"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the servers that keep their past."""
    found: Server = request.getfixturevalue({"EM": "embedded", "FS": "fs"}[request.param])
    return found


@pytest.fixture
def shell(tmp_path: Path, server: Server) -> Shell:
    return Shell(tmp_path, server)


@dataclass(frozen=True)
class Accident:
    client: datastore.Client
    then: str
    """Before it."""
    over: str
    """After it, and before the users' work."""
    before: dict[bytes, bytes]
    """What was there then."""
    after: dict[bytes, bytes]
    """What is there now."""

    def of(self, *ids: int) -> set[bytes]:
        return {self.key(i) for i in ids}

    def key(self, id_: int) -> bytes:
        key = self.client.key("Item", id_).to_protobuf()._pb
        return bytes(key.SerializeToString(deterministic=True))


def stored(server: Server) -> dict[bytes, bytes]:
    return {key: raw for key, (_, raw) in user_data(server).items()}


@pytest.fixture
def accident(server: Server) -> Accident:
    """400 entities of each of which another client overwrites one property and drops another, some
    of which it deletes (1 to 9), beside some it creates (501 to 505). After that users edit 5 %,
    delete 10, 11 and 3 (created again by them) and create 601."""
    client = server.client()
    odd = (
        entity(
            client, "Item", i,
            n=i, tags=["a", i], at=datetime(2026, 1, 1, tzinfo=timezone.utc), phone=f"+{i}",
            note="x" * 2000 if i % 7 == 0 else "short",
        )
        for i in range(1, COUNT + 1)
    )  # fmt: skip
    whole = []
    for one in odd:
        one.exclude_from_indexes = {"note"}
        whole.append(one)
    put(client, whole)
    before, then = stored(server), now()
    damaged = []
    for one in client.query(kind="Item").fetch():
        one["n"] = "oops"
        del one["tags"]
        one.exclude_from_indexes = {"note", "phone"}
        damaged.append(one)
    put(client, damaged)
    client.delete_multi([client.key("Item", i) for i in range(1, 10)])
    put(client, (entity(client, "Item", i, n="oops") for i in range(501, 506)))
    over = now()
    edited = client.get_multi([client.key("Item", i) for i in EDITED])
    for one in edited:
        one["phone"] = "new"
    put(client, edited)
    client.delete_multi([client.key("Item", i) for i in (10, 11)])
    put(client, [entity(client, "Item", i, n="by a user") for i in (3, 601)])
    return Accident(client, then, over, before, stored(server))


def rewound(result: Result) -> dict[str, Any]:
    keeps_the_contract(result.lines)
    (line,) = result.of_type("rewind")
    return line


def test_after_an_accident_everything_is_as_it_was_but_what_users_did_since(
    shell: Shell, server: Server, accident: Accident
) -> None:
    words = ["rewind", "--kind", "Item", "--to", accident.then, "--keep-after", accident.over]
    preview = shell.bulkup(*words, "--json")
    assert preview.code == 0, preview
    line = rewound(preview)
    # 10, 11 were deleted by users, 3 was created by one: these stay, like what they edited.
    put_back = COUNT - 11 - len(EDITED)
    assert (line["put_back"], line["recreated"], line["deleted"]) == (put_back, 8, 0)
    assert line["left_alone"] == {"newer": len(EDITED) + 4, "new": 5, "partial": 0}
    assert sum(minute["count"] for minute in line["last_written"]) == put_back
    assert stored(server) == accident.after
    assert shell.runs() == []

    applied = shell.bulkup(*words, "--apply", "--json")
    assert applied.code == 0, applied
    keeps_the_contract(applied.lines)
    assert applied.summary["counts"]["handled"] == put_back + 8
    theirs = accident.of(*EDITED, 3, 601)
    created = accident.of(*range(501, 506))
    gone = accident.of(10, 11)
    expected = {key: raw for key, raw in accident.before.items() if key not in gone}
    expected |= {key: accident.after[key] for key in theirs | created}
    assert stored(server) == expected

    again = shell.bulkup(*words)
    assert again.code == 0, again
    assert "Nothing to write: " in again.out
    # What is still different, the next two decide.
    assert shell.bulkup(*words, "--delete-new", "--apply").code == 0
    expected = {key: raw for key, raw in expected.items() if key not in created}
    assert stored(server) == expected
    everything = ["rewind", "--kind", "Item", "--to", accident.then, "--delete-new", "--apply"]
    assert shell.bulkup(*everything).code == 0
    assert stored(server) == accident.before


@pytest.mark.client_side
def test_a_rewind_can_be_undone(shell: Shell, server: Server, accident: Accident) -> None:
    words = ["rewind", "--kind", "Item", "--to", accident.then, "--delete-new", "--apply"]
    assert shell.bulkup(*words).code == 0
    assert stored(server) == accident.before
    undone = shell.bulkup("undo", shell.runs()[-1])
    assert undone.code == 0, undone
    assert stored(server) == accident.after


@pytest.mark.client_side
def test_chosen_properties_alone_are_put_back(
    shell: Shell, server: Server, accident: Accident
) -> None:
    words = ["rewind", "--kind", "Item", "--to", accident.then, "--property", "n"]
    words += ["--property", "tags", "--apply", "--json"]
    applied = shell.bulkup(*words)
    assert applied.code == 0, applied
    line = rewound(applied)
    assert (line["recreated"], line["deleted"]) == (0, 0)
    assert line["left_alone"] == {"newer": 0, "new": 6, "partial": 10}
    client = accident.client
    for one in client.query(kind="Item").fetch():
        if one.key.id > COUNT:
            continue
        assert one["n"] == one.key.id
        assert one["tags"] == ["a", one.key.id]
        if one.key.id != 3:
            assert one["phone"] == ("new" if one.key.id in EDITED else f"+{one.key.id}")
            assert one.exclude_from_indexes >= {"phone"}
    assert accident.key(1) not in stored(server)


@pytest.mark.client_side
def test_a_condition_narrows_it(shell: Shell, server: Server, accident: Accident) -> None:
    words = ["rewind", "--kind", "Item", "--to", accident.then, "--where", "n=77", "--apply"]
    assert shell.bulkup(*words).code == 0
    expected = {**accident.after, accident.key(77): accident.before[accident.key(77)]}
    assert stored(server) == expected


def test_what_changes_between_the_comparison_and_the_write_stays(
    tmp_path: Path, server: Server, accident: Accident, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import closing

    from bulkup.core.moment import parse_time
    from bulkup.engine.compare.comparison import Scope
    from bulkup.engine.options import Options
    from bulkup.runs.context import RunContext
    from bulkup.runs.rewind import RewindOptions, compare_times, prepare_rewind
    from bulkup.runs.start import start
    from bulkup.runs.target import TargetOptions, open_target
    from bulkup.state.restore_list import Restores

    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    where = TargetOptions(server.project)
    options = RewindOptions(parse_time(accident.then), Scope(("Item",)))
    context = RunContext(Options(), tmp_path / "state", lambda event: None)
    with closing(Restores()) as restores:
        with open_target(where) as target:
            found = compare_times(target, options, restores=restores)
        client = accident.client
        late = client.get(client.key("Item", 100))
        late["n"] = "late"
        put(client, [late, entity(client, "Item", 1, n="late")])
        client.delete(client.key("Item", 200))
        with prepare_rewind(options, found.report, restores, where, context) as prepared:
            report = start(prepared)
    assert report.counts.failed == 3
    left = accident.of(100, 1, 200)
    after = stored(server)
    assert {key: raw for key, raw in after.items() if key not in left} == {
        key: raw for key, raw in accident.before.items() if key not in left
    } | {key: accident.after[key] for key in accident.of(*range(501, 506), 601)}
    assert client.get(client.key("Item", 100))["n"] == "late"
    assert client.get(client.key("Item", 1))["n"] == "late"
    assert client.get(client.key("Item", 200)) is None


def lines_of(process: Any) -> Iterator[str]:
    assert process.stdout is not None
    return iter(process.stdout)


def test_killed_and_resumed_it_ends_the_same(
    shell: Shell, server: Server, accident: Accident
) -> None:
    words = ["rewind", "--kind", "Item", "--to", accident.then, "--delete-new", "--apply"]
    process = shell.begin(*words, "--json", "--batch-size", "20", "--max-rate", "100")
    for line in lines_of(process):
        if '"type": "progress"' in line and '"handled": 0' not in line:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    half = stored(server)
    assert half not in (accident.before, accident.after)
    resumed = shell.bulkup("resume", "-v", "--max-rate", "off", "--wait", "2m")
    assert resumed.code == 0, resumed
    assert stored(server) == accident.before


@pytest.mark.client_side
def test_a_person_is_told_what_would_happen_and_when_the_damage_was_done(
    shell: Shell, server: Server, accident: Accident
) -> None:
    result = shell.bulkup("rewind", "--kind", "Item", "--to", accident.then)
    assert result.code == 0, result
    assert "Key('Item', 1) would be written" in result.out
    assert "Key('Item', 501) would be left alone: created since (--delete-new" in result.out
    assert "What would be overwritten was last written: " in result.out
    assert "--keep-after TIME leaves alone what was written later" in result.out
    assert "Nothing was written. The same command with --apply writes it." in result.out
    assert contents(server).keys() == user_data(server).keys()
    assert not shell.state_dir.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--to 20m", "rewind needs --kind"),
        ("--kind Item", "Missing option '--to'"),
        ("--kind Item --to now", "--to needs a time of the past"),
        ("--kind Item --to 2026-11-28", "has no time zone"),
        ("--kind Item --to 2100-01-01T00:00Z", "is in the future"),
        ("--kind Item --to 1s --keep-after 30m", "give the time when the damage was done"),
        ("--kind Item --to 1s --keep-after now", "give the time when the damage was done"),
        ("--kind Item --to 1s --delete-new --property n", "cannot be used together"),
        ("--kind BulkupRun --to 1s", "is not a kind of yours"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    tmp_path: Path, embedded: Server, words: str, says: str
) -> None:
    shell = Shell(tmp_path, embedded)
    seed(embedded, 1)
    before = contents(embedded)
    result = shell.bulkup("rewind", *words.split(), "--apply")
    assert result.code == 2, result
    assert says in result.err.replace("\n", " ")
    assert "Traceback" not in result.err
    assert contents(embedded) == before
    assert not shell.state_dir.exists()


def test_a_kind_that_is_not_there_is_no_success(tmp_path: Path, embedded: Server) -> None:
    shell = Shell(tmp_path, embedded)
    seed(embedded, 1)
    shell.bulkup("rewind", "--kind", "Items", "--to", "1s", "--apply").fails(1, "there is 'Item'")


def test_a_target_with_confirm_is_asked_for(tmp_path: Path, embedded: Server) -> None:
    shell = Shell(tmp_path, embedded)
    client = seed(embedded, 1)
    then = now()
    put(client, [entity(client, "Item", 1, n=5)])
    shell.write("bulkup.toml", f'[targets.prod]\nproject = "{embedded.project}"\nconfirm = true\n')
    words = ["rewind", "--kind", "Item", "--to", then, "--target", "prod"]
    assert shell.bulkup(*words).code == 0  # it only shows
    refused = shell.bulkup(*words, "--apply")
    assert refused.code == 2
    assert "asks for confirmation" in refused.err
    assert client.get(client.key("Item", 1))["n"] == 5
    assert shell.bulkup(*words, "--apply", "--yes").code == 0
    assert client.get(client.key("Item", 1))["n"] == 0


def test_a_mistyped_property_is_named(tmp_path: Path, embedded: Server) -> None:
    shell = Shell(tmp_path, embedded)
    client = seed(embedded, 1)
    then = now()
    put(client, [entity(client, "Item", 1, n=5)])
    words = ["rewind", "--kind", "Item", "--to", then, "--property", "n"]
    assert "check --property" not in shell.bulkup(*words).out
    assert "differs in 'nn'; check --property" in shell.bulkup(*words, "--property", "nn").out


def test_a_file_is_rewound_across_restarts_of_its_server(nowhere: Shell) -> None:
    nowhere.write("rows.jsonl", '{"__key__": ["Item", 1], "n": 1}\n{"__key__": ["Item", 2]}')
    assert nowhere.bulkup("local", "load", "shop.db", "rows.jsonl").code == 0
    then = now()
    nowhere.write("rows.jsonl", '{"__key__": ["Item", 1], "n": 2}\n{"__key__": ["Item", 3]}')
    assert nowhere.bulkup("local", "load", "shop.db", "rows.jsonl").code == 0
    words = ["rewind", "--local", "shop.db", "--kind", "Item", "--to", then]
    assert nowhere.bulkup(*words, "--delete-new", "--apply").code == 0
    assert nowhere.bulkup("diff", "--local", "shop.db", "--from", then).code == 0


def test_a_server_that_ignores_times_is_refused(lf_shell: Shell, lf: Server) -> None:
    """What it calls the past is the present, and nothing would ever be put back."""
    seed(lf, 3)
    before = contents(lf)
    words = ["rewind", "--kind", "Item", "--to", "1m", "--delete-new", "--apply"]
    lf_shell.bulkup(*words).fails(1, "cannot read the past", "ignores the time")
    assert contents(lf) == before
    assert not lf_shell.state_dir.exists()


@pytest.mark.parametrize("dry_run", [True, False])
def test_undo_of_a_run_whose_folder_is_lost_rewinds_and_says_how_that_differs(
    tmp_path: Path, server: Server, dry_run: bool
) -> None:
    shell = Shell(tmp_path, server)
    shell.write("bump.py", BUMP)
    client = seed(server, 30, colour="red")
    before = stored(server)
    assert shell.bulkup("run", "bump.py").code == 0
    run_id = shell.runs()[-1]
    wait_until_after_the_second(client)
    edited = client.get(client.key("Item", 7))
    edited["colour"] = "blue"
    put(client, [edited])
    after = stored(server)
    shell.state_dir.rename(tmp_path / "lost")
    result = shell.bulkup("undo", run_id, *(["--dry-run"] if dry_run else []), "--json")
    assert result.code == 0, result
    (warning,) = (line for line in result.of_type("warning") if "before-images" in line["message"])
    assert f"the folder of run {run_id} is not here" in warning["message"]
    assert "also takes back what others wrote while the run worked" in warning["message"]
    key = bytes(edited.key.to_protobuf()._pb.SerializeToString(deterministic=True))
    assert stored(server) == (after if dry_run else {**before, key: after[key]})
    listed = {row["run_id"]: row for row in shell.bulkup("list", "--all", "--json").lines}
    if dry_run:
        assert not listed[run_id]["undone_by"]
    else:  # the entity that was edited since is left alone
        undo_id = shell.runs()[-1]
        assert (listed[run_id]["undone_by"], listed[run_id]["undone_partly"]) == (undo_id, True)
    shell.bulkup("undo", "20200101-000000-00000a").fails(10, "there is no run")
    refused = shell.bulkup("undo", run_id, "--force")
    assert refused.code == 2
    assert "leave them out" in refused.err


def test_a_lost_run_is_undone_once_and_with_its_successors(
    tmp_path: Path, embedded: Server
) -> None:
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP)
    shell.write("chain.py", f'{BUMP}\nclass Chain(Bump):\n    then = "bump.py"\n')
    seed(embedded, 5)
    before = stored(embedded)
    assert shell.bulkup("run", "chain.py:Chain").code == 0
    first, second = shell.runs()
    shell.state_dir.rename(tmp_path / "lost")
    (shell.folder / "chain.py").write_text("raise SystemExit('no record names what is loaded')")
    done = shell.bulkup("undo", first)
    assert done.code == 0, done
    assert f"{second}, which followed it" in done.err
    assert stored(embedded) == before
    undo_id = shell.runs()[-1]
    everything = contents(embedded)
    for run_id in (first, second):
        shell.bulkup("undo", run_id).fails(10, f"is undone (by {undo_id})")
    assert contents(embedded) == everything
    assert shell.bulkup("undo", undo_id).code == 0
    shell.write("chain.py", f'{BUMP}\nclass Chain(Bump):\n    then = "bump.py"\n')
    runs, everything = shell.runs(), stored(embedded)
    assert shell.bulkup("run", "chain.py:Chain", "--once").code == 0  # it counts as done again
    assert (shell.runs(), stored(embedded)) == (runs, everything)


def wait_until_after_the_second(client: datastore.Client) -> None:
    """The end of a run is recorded in whole seconds: until one has passed."""
    start = datetime.now(timezone.utc)
    while (datetime.now(timezone.utc) - start).total_seconds() < 2:
        client.get(client.key("Item", 1))


@pytest.mark.parametrize("server", ["EM"], indirect=True)
@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["--where", "colour = 'red'"], {1, 2, 3}),
        (["--where", "size > 2 AND size < 6"], {3, 4, 5}),
        (["--where", "colour = 'red' OR size = 6"], {1, 2, 3, 6}),
        (["--ancestor", "KEY(Item, 2)"], {2}),
    ],
)
def test_undo_of_a_lost_run_puts_back_only_what_it_had_selected(
    tmp_path: Path, server: Server, words: list[str], chosen: set[int]
) -> None:
    shell = Shell(tmp_path, server)
    shell.write("bump.py", BUMP)
    client = server.client()
    put(client, [
        entity(client, "Item", i, n=0, size=i, colour="red" if i < 4 else "blue")
        for i in range(1, 9)
    ])  # fmt: skip
    before = stored(server)
    assert shell.bulkup("run", "bump.py", *words).code == 0
    (run_id,) = shell.runs()
    others = [client.get(client.key("Item", i)) for i in range(1, 9) if i not in chosen]
    for other in others:  # while the run may have worked: by the clock of a second
        other["n"] = 99
    put(client, others)
    after = stored(server)
    shell.state_dir.rename(tmp_path / "lost")
    result = shell.bulkup("undo", run_id)
    assert result.code == 0, result
    assert "that was selected then, or is now (" in result.err
    kept = {other.key.to_protobuf()._pb.SerializeToString(deterministic=True) for other in others}
    assert stored(server) == {key: (after if key in kept else before)[key] for key in before}
