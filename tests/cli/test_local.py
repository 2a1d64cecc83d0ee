"""`bulkup local`: serve, load and dump a file, as at a shell."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import datastore

from bulkup.core.errors import UsageError
from bulkup.engine.options import Options
from bulkup.runs.context import RunContext
from bulkup.runs.open_to_run import open_to_run
from bulkup.runs.target import TargetOptions
from tests.cli.shell import BUMP, TIMEOUT_S, Result, Shell, ended
from tests.cli.test_help import HEAVY

pytestmark = pytest.mark.sampled(9)

PRODUCTS = '{"id": 1, "name": "x", "n": 1}\n{"id": 2, "name": "ü", "n": 2.5}\n'
DUMPED = (
    '{"__key__": ["Product", 1], "id": 1, "n": 1, "name": "x"}\n'
    '{"__key__": ["Product", 2], "id": 2, "n": 2.5, "name": "ü"}\n'
)


def loaded(shell: Shell, *options: str, text: str = PRODUCTS) -> Result:
    (shell.folder / "data.jsonl").write_text(text)
    return shell.bulkup("local", "load", "store", "data.jsonl", *options)


def piped(shell: Shell, *args: str, stdin: str | int) -> Result:
    given = {"input": stdin} if isinstance(stdin, str) else {"stdin": stdin}
    done = subprocess.run(
        [sys.executable, "-m", "bulkup", *args],
        cwd=shell.folder, env=shell.environment, capture_output=True, text=True,
        timeout=TIMEOUT_S, **given,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("words", ["local", "local serve", "local load", "local dump", "demo"])
def test_help_imports_nothing_heavy(nowhere: Shell, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bulkup", *words.split(), "--help"],
        cwd=nowhere.folder, env=nowhere.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: bulkup {words} ")
    imported = [line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()]
    assert "bulkup.cli" in imported
    assert not [m for m in imported if m.startswith(HEAVY)]


# --- load and dump ---


def test_what_is_loaded_is_dumped(nowhere: Shell) -> None:
    assert loaded(nowhere, "--kind", "Product", "--id-field", "id") == Result(
        0, "", "2 entities loaded into store.\n"
    )
    assert nowhere.bulkup("local", "dump", "store") == Result(0, DUMPED, "2 entities dumped.\n")
    limited = nowhere.bulkup("local", "dump", "store", "--kind", "Product", "--limit", "1")
    assert limited == Result(0, DUMPED.splitlines(keepends=True)[0], "1 entity dumped.\n")
    assert nowhere.bulkup("local", "dump", "store", "--kind", "No").out == ""


def test_a_damaged_file_is_named_by_every_command(nowhere: Shell) -> None:
    loaded(nowhere, "--kind", "Product", "--id-field", "id")
    nowhere.write("bump.py", BUMP)
    path = nowhere.folder / "store"
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    for words in ("local dump store", "run bump.py --local store", "list --all --local store"):
        refused = nowhere.bulkup(*words.split())
        refused.fails(1, "is damaged (", "restore it from a copy")


def test_a_run_on_a_file_that_cannot_be_written_does_not_begin(
    nowhere: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(nowhere, "--kind", "Product", "--id-field", "id")
    path = str(nowhere.folder / "store")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everything
    context = RunContext(Options(), nowhere.state_dir, lambda _: None)
    there = open_to_run(TargetOptions(local=path), context)
    with pytest.raises(UsageError, match="cannot be written; make it writable"), there:
        pass
    dry = replace(context, options=Options(dry_run=True))
    with open_to_run(TargetOptions(local=path), dry) as target:
        assert target.info.local == path


def test_lines_that_get_a_new_id_each_time_are_said(nowhere: Shell) -> None:
    once = loaded(nowhere, "--kind", "Product")
    assert "The file assigned an id to 2 of them" in once.err
    assert "loading the same lines again adds them again; --id-field NAME" in once.err


def test_standard_input_is_a_source_and_the_locale_does_not_matter(nowhere: Shell) -> None:
    nowhere.environment["LC_ALL"] = "C"
    nowhere.environment["PYTHONCOERCECLOCALE"] = "0"
    nowhere.environment["PYTHONUTF8"] = "0"
    result = piped(nowhere, "local", "load", "store", "-", "--kind", "K", stdin='{"x": 1}\nno\n')
    result.fails(1, "line 2 of standard input", "load from line 2 on")
    piped(nowhere, "local", "load", "store", "-", stdin='{"__key__": ["L", 1], "a": "ü"}')
    raw = subprocess.run(
        [sys.executable, "-m", "bulkup", "local", "dump", "store", "--kind", "L"],
        cwd=nowhere.folder, env=nowhere.environment, capture_output=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert raw.stdout == '{"__key__": ["L", 1], "a": "ü"}\n'.encode()


def test_an_updater_sees_what_was_loaded_and_a_dump_leaves_out_run_records(nowhere: Shell) -> None:
    items = '{"id": 1, "n": 1}\n{"id": 2, "n": 5}\n'
    loaded(nowhere, "--kind", "Item", "--id-field", "id", text=items)
    assert nowhere.bulkup("run", "bump.py", "--local", "store").code == 0
    shown = nowhere.bulkup("local", "dump", "store")
    assert [json.loads(line)["n"] for line in shown.out.splitlines()] == [2, 6]
    records = nowhere.bulkup("local", "dump", "store", "--kind", "BulkupRun")
    assert len(records.out.splitlines()) == 1


def test_namespaces_projects_and_databases_are_kept_apart(nowhere: Shell) -> None:
    where = ("--namespace", "n", "--project", "p", "--database", "d")
    loaded(nowhere, "--kind", "Product", "--id-field", "id", *where)
    assert nowhere.bulkup("local", "dump", "store").out == ""
    assert nowhere.bulkup("local", "dump", "store", *where).out == DUMPED
    forms = nowhere.bulkup("local", "dump", "store", *where, "--lossless").out.splitlines()
    assert json.loads(forms[0])["key"]["partitionId"] == {
        "projectId": "p", "databaseId": "d", "namespaceId": "n",
    }  # fmt: skip


def test_a_dump_that_finds_nothing_says_what_there_is(nowhere: Shell) -> None:
    loaded(nowhere, "--kind", "Product", "--namespace", "shop")
    here = nowhere.bulkup("local", "dump", "store")
    says = "0 entities dumped. Namespaces with entities: shop (--namespace).\n"
    assert here == Result(0, "", says)
    there = nowhere.bulkup("local", "dump", "store", "--kind", "product", "--namespace", "shop")
    assert there.out == ""
    assert "none of kind 'product' here; kinds are: Product." in there.err
    nothing = nowhere.bulkup("local", "dump", "store", "--limit", "0", "--namespace", "shop")
    assert nothing.err == "0 entities dumped.\n"


def test_a_dump_says_how_many_lines_needed_the_lossless_form(nowhere: Shell) -> None:
    line = (
        '{"key": {"path": [{"kind": "K", "id": "1"}]},'
        ' "properties": {"t": {"timestampValue": "2020-01-01T00:00:00Z"}}}'
    )
    loaded(nowhere, text=line + '\n{"__key__": ["K", 2]}\n')
    shown = nowhere.bulkup("local", "dump", "store")
    assert shown.err == "2 entities dumped, 1 of them in the lossless form.\n"
    first = json.loads(shown.out.splitlines()[0])
    assert first["properties"] == {"t": {"timestampValue": "2020-01-01T00:00:00Z"}}


def test_a_bad_line_is_one_sentence_and_what_came_before_it_stays(nowhere: Shell) -> None:
    result = loaded(nowhere, "--kind", "Product", "--id-field", "id", text=PRODUCTS + "{no}\n")
    result.fails(1, "line 3 of data.jsonl", "not JSON", "The 2 entities before it", "tail -n +3")
    assert nowhere.bulkup("local", "dump", "store").out == DUMPED
    loaded(nowhere).fails(1, "line 1", "it has no key", "--kind KIND", "Nothing was loaded")


def test_escapes_in_data_do_not_reach_the_terminal(nowhere: Shell) -> None:
    evil = '{"__key__": ["K", "\\u001b[2J\\u202e"], "\\u009b": "\\u001b]0;x\\u0007"}\n'
    loaded(nowhere, text=evil)
    shown = nowhere.bulkup("local", "dump", "store").out
    assert json.loads(shown) == json.loads(evil)
    assert shown.rstrip("\n").isprintable()
    bad = '{"key": {"path": []}, "properties": {"\\u001b[2J": {"x": 1}}}'
    assert "\x1b" not in loaded(nowhere, text=bad).fails(1).err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("load", "store", "absent.jsonl"), 2, "does not exist"),
        (("dump", "absent"), 2, "does not exist"),
        (("dump", "."), 2, "is a directory"),
        (("dump", "bump.py"), 1, "not a file of bulkup's embedded Datastore"),
        (("load", "bump.py", "bump.py"), 1, "not a file of bulkup's embedded Datastore"),
        (("load", "no/folder/store", "bump.py"), 1, "cannot open"),
        (("serve", "--port", "70000"), 2, "70000"),
        (("serve", "bump.py"), 1, "not a file of bulkup's embedded Datastore"),
    ],
)
def test_a_wrong_file_is_named_and_no_file_is_created(
    nowhere: Shell, args: tuple[str, ...], code: int, says: str
) -> None:
    before = sorted(nowhere.folder.iterdir())
    result = nowhere.bulkup("local", *args)
    assert result.code == code, result
    assert result.out == ""
    assert says in result.err
    assert "Traceback" not in result.err
    made = {p.name for p in set(nowhere.folder.iterdir()) - set(before)}
    assert made <= {"bump.py-lock"}


def test_data_is_readable_only_by_its_owner(nowhere: Shell) -> None:
    loaded(nowhere, "--kind", "K")
    for path in nowhere.folder.glob("store*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_reader_of_a_pipe_may_leave(nowhere: Shell) -> None:
    loaded(nowhere, "--kind", "K", text="".join(f'{{"n": {n}}}\n' for n in range(5000)))
    process = nowhere.begin("local", "dump", "store")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stream:
        assert stream.read() == ""
    assert process.wait(TIMEOUT_S) == 1


def test_an_interrupted_dump_says_that_it_is_not_complete(nowhere: Shell) -> None:
    loaded(nowhere, "--kind", "K", text="".join(f'{{"n": {n}}}\n' for n in range(5000)))
    process = nowhere.begin("local", "dump", "store")
    assert process.stdout is not None
    process.stdout.readline()  # the rest does not fit into the pipe
    process.send_signal(signal.SIGINT)
    result = ended(process)
    assert result.code == 130
    assert result.err == "Interrupted; the output is not complete.\n"


def test_a_full_disk_behind_standard_output_is_reported(nowhere: Shell) -> None:
    loaded(nowhere, "--kind", "K")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bulkup", "local", "dump", "store"],
            cwd=nowhere.folder, env=nowhere.environment, stdout=full, stderr=subprocess.PIPE,
            text=True, timeout=TIMEOUT_S,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot write to standard output (No space left")
    assert len(done.stderr.splitlines()) == 1


def test_an_interrupted_load_from_a_pipe_names_the_line_it_reached(nowhere: Shell) -> None:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "bulkup", "local", "load", "store", "-", "--kind", "K"],
        cwd=nowhere.folder, env=nowhere.environment, stdin=reading, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(reading)
    with open(writing, "w") as lines:
        # More than a pipe holds: once all of it is written, the process has read some.
        lines.write('{"x": "%s"}\n' % ("y" * 1000) * 1000)
        lines.flush()
        process.send_signal(signal.SIGINT)
        result = ended(process)
    assert result.code == 130, result
    assert result.out == ""
    assert "interrupted at line" in result.err
    told = 1 + int(result.err.split("interrupted at line ")[1].split(".")[0]) - 2
    assert len(nowhere.bulkup("local", "dump", "store").out.splitlines()) == told


WATCHED = """
import sys, threading
from bulkup.cli import call

peak_kb, over = 0, threading.Event()

def watch():
    # Only private memory counts: the system may keep or drop pages of the mapped file.
    global peak_kb
    while not over.wait(0.005):
        status = open("/proc/self/status").read()
        peak_kb = max(peak_kb, int(status.split("RssAnon:")[1].split()[0]))

thread = threading.Thread(target=watch)
thread.start()
code = call(sys.argv[1:])
over.set()
thread.join()
print(peak_kb / 1024, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(nowhere: Shell) -> None:
    def peak_mb(count: int) -> float:
        name = f"store{count}"
        data = nowhere.folder / f"{name}.jsonl"
        with data.open("w") as lines:
            lines.writelines(f'{{"n": {n}, "x": "{"y" * 500}"}}\n' for n in range(count))
        peak = 0.0
        for args in (["load", name, data.name, "--kind", "K"], ["dump", name]):
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", WATCHED, "local", *args],
                cwd=nowhere.folder, env=nowhere.environment, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=True,
            )  # fmt: skip
            peak = max(peak, float(done.stderr.splitlines()[-1]))
        return peak

    # The lines alone are 15 MB.
    assert peak_mb(33_000) < peak_mb(5_000) + 7


def on_terminal(shell: Shell, *args: str) -> tuple[int, str]:
    """Both outputs on one terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "bulkup", *args],
        cwd=shell.folder, env={**shell.environment, "TERM": "xterm"}, stdin=theirs, stdout=theirs,
        stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while select.select([ours], [], [], TIMEOUT_S)[0]:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        seen += chunk
    os.close(ours)
    return process.wait(TIMEOUT_S), seen.decode()


def test_a_terminal_has_a_bar_while_loading_and_bare_lines_of_a_dump(nowhere: Shell) -> None:
    (nowhere.folder / "data.jsonl").write_text(PRODUCTS * 600)
    code, seen = on_terminal(nowhere, "local", "load", "store", "data.jsonl", "--kind", "K")
    assert code == 0
    assert "Loading" in seen
    assert "1,200 entities loaded into store." in seen
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h")  # the cursor is visible again
    code, seen = on_terminal(nowhere, "local", "dump", "store", "--limit", "3")
    assert code == 0
    assert "\x1b" not in seen
    assert len(seen.splitlines()) == 4


# --- serve ---


@contextmanager
def serving(
    shell: Shell, *args: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], datastore.Client]]:
    """A server, and a client made from the line it printed, which is all it printed."""
    process = shell.begin("local", "serve", *args, env=env)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("export DATASTORE_EMULATOR_HOST=127.0.0.1:"), line
        yield (
            process,
            datastore.Client(
                project="local",
                credentials=AnonymousCredentials(),
                client_options={"api_endpoint": "http://" + line.split("=")[1].strip()},
            ),
        )
    finally:
        if process.poll() is None:
            process.terminate()
            assert ended(process).code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_served_file_keeps_what_was_written_and_the_server_exits_with_zero(
    nowhere: Shell, number: signal.Signals
) -> None:
    loaded(nowhere, "--kind", "Product", "--id-field", "id")
    with serving(nowhere, "store") as (process, client):
        found = {e.key.id: e["name"] for e in client.query(kind="Product").fetch()}
        assert found == {1: "x", 2: "ü"}
        new = datastore.Entity(client.key("Product", 3))
        new["name"] = "served"
        client.put(new)
        dumped = nowhere.bulkup("local", "dump", "store")
        assert (dumped.code, dumped.out.count("served")) == (0, 1), dumped
        held = nowhere.bulkup("local", "load", "store", "-", "--kind", "K")
        held.fails(1, "is already open", str(process.pid), "DATASTORE_EMULATOR_HOST")
        process.send_signal(number)
        result = ended(process)
    assert result.code == 0, result
    assert result.out == ""
    assert "Serving store" in result.err
    assert '"served"' in nowhere.bulkup("local", "dump", "store").out


def test_without_a_file_nothing_is_left(nowhere: Shell, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with serving(nowhere, env={"TMPDIR": str(scratch)}) as (process, client):
        client.put(datastore.Entity(client.key("K", 1)))
        assert client.get(client.key("K", 1)) is not None
        process.send_signal(signal.SIGINT)
        assert ended(process).code == 0
    assert list(scratch.iterdir()) == []


def test_a_port_can_be_chosen_and_a_taken_one_is_named(nowhere: Shell) -> None:
    with serving(nowhere) as (_, client):
        port = client.base_url.rsplit(":", 1)[1]
        second = ended(nowhere.begin("local", "serve", "store", "--port", port))
        second.fails(1, f"127.0.0.1:{port}", "in use")
    with serving(nowhere, "store", "--port", port) as (_, again):
        assert again.base_url == client.base_url


WAITING = """
    import os, time
    import bulkup

    @bulkup.updater(kind="Product")
    def touch(entity):
        open("handling", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.01)
        entity["touched"] = True
        return entity
"""


def test_a_second_run_on_a_file_is_told_or_waits(nowhere: Shell) -> None:
    loaded(nowhere, "--kind", "Product", "--id-field", "id")
    nowhere.write("touch.py", WAITING)
    run = ("run", "touch.py", "--local", "store")
    first = nowhere.begin(*run)
    try:
        deadline = time.monotonic() + 120
        while not (nowhere.folder / "handling").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for wait in ([], ["--wait", "1s"]):
            held = nowhere.bulkup("run", "touch.py", "--local", "store", *wait, "--quiet")
            held.fails(11, "store is already open in process", "nothing was started", "--wait 30m")
        other = nowhere.bulkup("run", "bump.py", "--local", "store")
        other.fails(11, "store is already open in process")
        nowhere.write("updaters/0001_touch.py", WAITING)
        nowhere.bulkup("migrate", "--local", "store").fails(11, "is already open in process")
        second = nowhere.begin(*run, "--wait", "2m", "--json")
        assert second.stdout is not None
        assert '"waiting: ' in second.stdout.readline()
    finally:
        (nowhere.folder / "go").touch()
        assert ended(first).code == 0
    waited = ended(second)
    assert waited.code == 0, waited
    assert len(nowhere.runs()) == 1  # the work is not done twice


def test_a_file_that_a_run_works_on_can_be_read(nowhere: Shell) -> None:
    loaded(nowhere, "--kind", "Product", "--id-field", "id")
    nowhere.write("updaters/0001_wait.py", WAITING)
    local = ("--local", "store", "--project", "local")
    applying = nowhere.begin("migrate", *local)
    try:
        deadline = time.monotonic() + 120
        while not (nowhere.folder / "handling").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        status = nowhere.bulkup("status", *local, "--json")
        assert [line["standing"] for line in status.of_type("migration")] == ["running"]
        listed = nowhere.bulkup("list", "--all", *local, "--state-dir", "elsewhere", "--json")
        assert [line["updater"] for line in listed.of_type("run")] == ["touch"]
        dumped = nowhere.bulkup("local", "dump", "store", "--kind", "Product")
        assert (dumped.code, len(dumped.out.splitlines())) == (0, 2)
        assert "touched" not in dumped.out
        nowhere.bulkup("mark", "0001_wait", "--applied", *local).fails(1, "is already open")
    finally:
        (nowhere.folder / "go").touch()
        assert ended(applying).code == 0
    assert nowhere.bulkup("status", *local, "--check").code == 0
    assert nowhere.bulkup("local", "dump", "store").out.count("touched") == 2


@pytest.mark.parametrize(
    ("line", "what"),
    [('{"n": 1}', "it has no 'id', which"), ('{"id": null}', "its 'id' is neither an integer")],
)
def test_a_line_without_an_id_says_what_to_do(nowhere: Shell, line: str, what: str) -> None:
    result = loaded(nowhere, "--kind", "Product", "--id-field", "id", text=f'{{"id": 1}}\n{line}\n')
    assert result.code == 1
    assert f"line 2 of data.jsonl: {what}" in result.err
    assert 'give it an id, or a "__key__" such as ["Order", 5]' in result.err
    assert "to another file and load that without --id-field" in result.err
    with_key = line.replace("{", '{"__key__": ["Product", 7], ')
    both = ("--kind", "Product", "--id-field", "id")
    assert loaded(nowhere, *both, text=f'{{"id": 1}}\n{with_key}\n').code == 0
