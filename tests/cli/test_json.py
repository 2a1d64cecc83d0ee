"""What programs may rely on: every line of every `--json`, and nothing else on standard output."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bulkup.cli import _COMMANDS
from bulkup.report.json_lines import schema
from tests.cli.json_contract import keeps_the_contract, strict_validator
from tests.cli.shell import BUMP, Result, Shell, entity, put, seed
from tests.conftest import Server
from tests.migrations.conftest import write_step

pytestmark = pytest.mark.sampled(9)

REPOSITORY = Path(__file__).parents[2]

WORDY = """
    from bulkup import Updater

    class Wordy(Updater):
        '''Fails at 3, logs, deletes, leaves alone.'''

        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            self.log(f"saw {entity.key.id}")
            if entity.key.id == 3:
                raise ValueError("no latitude")
            if entity.key.id == 4:
                self.delete(entity)
            else:
                entity["n"] += 1
                self.put(entity)
"""


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP)
    shell.write("wordy.py", WORDY)
    return shell


def told(result: Result) -> list[dict[str, Any]]:
    """The lines of a command, each as the schema says."""
    assert result.lines, result
    keeps_the_contract(result.lines)
    return result.lines


def types(result: Result) -> set[str]:
    return {line["type"] for line in told(result)}


def test_each_line_of_a_run_and_of_what_shows_it_is_as_the_schema_says(
    shell: Shell, embedded: Server
) -> None:
    seed(embedded, 6)
    dry = shell.bulkup("run", "-n", "wordy.py", "--max-failures", "2", "--json")
    assert types(dry) >= {"start", "failure", "log", "change", "summary"}
    stopped = shell.bulkup("run", "wordy.py", "--json")
    assert types(stopped) >= {"start", "failure", "log", "summary", "delivery"}
    assert stopped.summary["next_steps"] == [f"bulkup resume {shell.runs()[-1]}"]
    resumed = shell.bulkup("resume", "--max-failures", "2", "--json")
    assert types(resumed) >= {"start", "failure", "log", "summary"}
    assert resumed.summary["next_steps"] == [f"bulkup retry {shell.runs()[-1]}"]
    assert {"start", "end"} <= types(shell.bulkup("logs", shell.runs()[-1], "--json"))
    shown = shell.bulkup("show", shell.runs()[-1], "--json")
    assert types(shown) >= {"failure", "log", "summary"}
    verified = shell.bulkup("verify", "wordy.py", "--json")
    assert types(verified) >= {"start", "finding", "summary"}
    (row,) = shell.bulkup("list", "--json").lines
    retried = shell.bulkup("retry", shell.runs()[-1], "--max-failures", "2", "--json")
    assert types(retried) >= {"start", "failure", "log", "summary"}
    assert types(shell.bulkup("show", row["run_id"], "--changes", "--json")) == {"change"}
    assert types(shell.bulkup("report", row["run_id"], "--json")) == {"report"}
    compared = shell.bulkup("report", "--compare", row["run_id"], "--json")
    assert types(compared) == {"comparison"}
    assert types(shell.bulkup("list", "--json")) == {"run"}
    assert types(shell.bulkup("list", "--all", "--json")) == {"run"}
    assert types(shell.bulkup("params", "bump.py", "--json")) == {"param"}
    assert types(shell.bulkup("updaters", ".", "--json")) == {"updater"}
    assert types(shell.bulkup("config", "--json")) == {"config", "setting"}
    assert types(shell.bulkup("plan", "wordy.py", "--json")) >= {"start", "failure", "log", "plan"}
    assert types(shell.bulkup("diff", "--from", "20m", "--json")) == {"diff", "difference"}
    back = ("rewind", "--kind", "Item", "--to", "20m", "--json")
    assert types(shell.bulkup(*back)) == {"rewind", "kept"}
    assert types(shell.bulkup(*back, "--delete-new")) == {"rewind", "change"}
    assert types(shell.bulkup("undo", row["run_id"], "--json")) >= {"start", "summary", "delivery"}
    counts = resumed.summary["counts"]
    assert row["counts"] == counts
    assert (counts["written"], counts["deleted"], counts["failed"]) == (4, 1, 1)
    assert (row["written"], row["deleted"]) == (4, 1)


@pytest.mark.parametrize("processes", [1, 2])
def test_show_repeats_the_lines_of_the_run_with_their_times(
    shell: Shell, embedded: Server, processes: int
) -> None:
    seed(embedded, 6)
    words = ("--max-failures", "2", "--processes", processes, "--json")
    ran = shell.bulkup("run", "wordy.py", *words)
    assert ran.code == 3, ran
    shown = shell.bulkup("show", "--json")
    for kind in ("failure", "log"):
        assert ran.of_type(kind)
        assert shown.of_type(kind) == ran.of_type(kind)
    assert shown.summary["time"] == shown.summary["ended"]


def test_the_failure_that_stopped_a_run_keeps_its_time(shell: Shell, embedded: Server) -> None:
    seed(embedded, 6)
    (failure,) = shell.bulkup("run", "wordy.py", "--json").of_type("failure")
    assert shell.bulkup("show", "--json").of_type("failure") == [failure]


def test_times_outlive_the_state_directory(shell: Shell, embedded: Server) -> None:
    seed(embedded, 6)
    options = ("--max-failures", "2", "--batch-size", "1", "--json")
    ran = shell.bulkup("run", "wordy.py", "--limit", "4", *options)
    shell.state_dir.rename(shell.folder / "lost")
    assert shell.bulkup("run", "wordy.py", *options).code == 3
    shown = shell.bulkup("show", "--json")
    assert ran.of_type("failure") == shown.of_type("failure")
    earlier = {line["line"]: line["time"] for line in ran.of_type("log")}
    assert len(earlier) == 4
    now = {line["line"]: line["time"] for line in shown.of_type("log")}
    assert earlier.items() <= now.items()


def test_each_line_of_migrations_is_as_the_schema_says(shell: Shell, embedded: Server) -> None:
    seed(embedded, 8)
    for number, mark in enumerate("ab", 1):
        write_step(shell, f"{number:04d}_{mark}", mark)
    failed = shell.bulkup("migrate", "--json", env={"FAIL_AT": "b"})
    assert failed.code == 1
    assert types(failed) >= {"start", "failure", "summary", "migrate"}
    (last,) = failed.of_type("migrate")
    assert last["next_steps"] == ["bulkup migrate updaters"]
    assert types(shell.bulkup("status", "--json")) == {"migration", "status"}
    assert types(shell.bulkup("migrate", "-n", "--json")) >= {"migrate"}
    assert types(shell.bulkup("migrate", "--json")) >= {"start", "summary", "migrate"}


def test_each_line_of_several_namespaces_is_as_the_schema_says(
    shell: Shell, embedded: Server
) -> None:
    seed(embedded, 2)
    seed(embedded, 2, namespace="t")
    write_step(shell, "0001_a", "a")
    ran = shell.bulkup("run", "bump.py", "--all-namespaces", "--json")
    assert types(ran) >= {"namespaces", "start", "summary", "group"}
    assert types(shell.bulkup("migrate", "--all-namespaces", "--json")) >= {"start", "group"}
    group_id = ran.of_type("group")[0]["run_id"]
    assert types(shell.bulkup("show", group_id, "--json")) == {"group"}
    assert types(shell.bulkup("report", group_id, "--json")) == {"report"}
    status = shell.bulkup("status", "--all-namespaces", "--json")
    assert types(status) == {"migration", "status"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("run nope.py", 10),
        ("run bump.py --batch-size 0", 2),
        ("run bump.py --no-such-option", 2),
        ("run", 2),
        ("resume", 10),
        ("resume nope", 10),
        ("show nope", 10),
        ("params nope.py", 10),
        ("plan nope.py", 10),
        ("plan bump.py --out bump.py", 2),
        ("status nowhere", 10),
        ("migrate nowhere", 10),
    ],
)
def test_an_error_is_a_line_too_whatever_the_command(shell: Shell, words: str, code: int) -> None:
    result = shell.bulkup(*words.split(), "--json")
    assert result.code == code, result
    (error,) = told(result)
    assert (error["type"], error["exit_code"]) == ("error", code)
    assert result.err.strip()  # people read it there


def test_a_damaged_run_is_a_line_of_the_list(shell: Shell, embedded: Server) -> None:
    seed(embedded, 1)
    assert shell.bulkup("run", "bump.py").code == 0
    shell.checkpoint().write_bytes(b"not SQLite")
    (row,) = told(shell.bulkup("list", "--json"))
    assert row["state"] == "damaged"


def test_keys_are_data_and_values_are_lossless(shell: Shell, embedded: Server) -> None:
    client = embedded.client(namespace="eu")
    odd = entity(client, "Shop", 5, "Order", 'it\'s "ORD-1"\n', n=2**60, gone=None)
    odd.exclude_from_indexes = {"n"}
    put(client, [odd])
    shell.write(
        "odd.py",
        """
        import bulkup

        @bulkup.updater(kind="Order")
        def odd(entity):
            entity["n"] += 1
            entity["new"] = b"\\xff"
            del entity["gone"]
            return entity
        """,
    )
    (change,) = (
        line
        for line in told(shell.bulkup("run", "-n", "odd.py", "--namespace", "eu", "--json"))
        if line["type"] == "change"
    )
    assert change["typed_key"] == {
        "path": [["Shop", 5], ["Order", 'it\'s "ORD-1"\n']],
        "namespace": "eu",
    }
    values = {value["name"]: (value["before"], value["after"]) for value in change["values"]}
    assert values == {
        "gone": ({"nullValue": None}, None),
        "n": (
            {"integerValue": str(2**60), "excludeFromIndexes": True},
            {"integerValue": str(2**60 + 1), "excludeFromIndexes": True},
        ),
        "new": (None, {"blobValue": "/w=="}),
    }


LOUD = """
    import atexit, ctypes, os, subprocess, sys

    def shout(place):
        print(f"print {place}", flush=True)
        os.write(1, f"write {place}\\n".encode())
        subprocess.run(["echo", f"echo {place}"], check=True)
        libc = ctypes.CDLL(None)
        libc.puts(f"puts {place}".encode())
        libc.fflush(None)
        sys.__stdout__.write(f"original {place}\\n")
        sys.__stdout__.flush()

    shout("import")
    atexit.register(shout, "exit")

    from bulkup import Updater

    class Loud(Updater):
        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            shout("handler")
            if os.fork() == 0:
                shout("fork")
                os._exit(0)
            os.wait()
            entity["n"] += 1
            self.put(entity)

        def finish(self, success, report):
            shout("finish")
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_whatever_user_code_prints_standard_output_holds_only_lines(
    shell: Shell, embedded: Server, processes: int
) -> None:
    seed(embedded, 2)
    shell.write("loud.py", LOUD)
    process = shell.start("run", "loud.py", "--json", "--processes", processes)
    out, err = process.communicate(timeout=300)
    result = Result(process.returncode, out, err)
    assert result.code == 0, result
    assert types(result) >= {"start", "summary"}
    for place in ("import", "handler", "fork", "finish", "exit"):
        for way in ("print", "write", "echo", "puts", "original"):
            assert f"{way} {place}" in err, (way, place)


@pytest.mark.parametrize("words", ["params loud.py", "run -n loud.py", "run loud.py --limit 1"])
def test_no_command_lets_user_code_print_between_its_lines(
    shell: Shell, embedded: Server, words: str
) -> None:
    seed(embedded, 2)
    shell.write("loud.py", LOUD + "\n        from bulkup import param\n        size = param(1)\n")
    result = shell.bulkup(*words.split(), "--json")
    told(result)
    assert "write import" in result.err


def test_a_reader_that_goes_away_ends_a_command_that_only_reads(
    shell: Shell, embedded: Server
) -> None:
    seed(embedded, 1)
    for _ in range(3):
        assert shell.bulkup("run", "bump.py", "--new").code == 0
    run = shell.runs()[-1]
    for words in (["list"], ["list", "--json"], ["show", run], ["show", run, "--json"]):
        process = shell.begin(*words)
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        with process.stderr as stderr:
            text = stderr.read()
        process.wait(300)
        assert text == "", (words, text)
        assert process.returncode in (0, 1)


def test_the_schema_knows_only_what_it_should() -> None:
    line = {"type": "log", "version": 1, "time": "2026-01-02T03:04:05.678Z", "run_id": "x"}
    assert strict_validator().is_valid({**line, "line": "a"})
    assert not strict_validator().is_valid(line)
    assert not strict_validator().is_valid({**line, "line": "a", "more": 1})
    assert not strict_validator().is_valid({**line, "line": "a", "type": "logs"})
    assert not strict_validator().is_valid({**line, "line": "a", "version": "1"})


def test_every_type_and_field_is_documented() -> None:
    page = (REPOSITORY / "docs/json.md").read_text()
    documented = set(re.findall(r"`([\w]+)`", page))
    assert _names(schema()) <= documented


def _names(part: Any) -> set[str]:
    """Types of lines, and names of fields."""
    if isinstance(part, list):
        return set().union(*map(_names, part))
    if not isinstance(part, dict):
        return set()
    names = set(part.get("properties", ()))
    kind = part.get("properties", {}).get("type", {})
    names |= set(kind.get("enum", ())) if isinstance(kind, dict) else set()
    return names.union(*map(_names, part.values()))


def test_steering_a_run_that_nobody_works_on(shell: Shell, embedded: Server) -> None:
    seed(embedded, 10)
    assert shell.bulkup("run", "bump.py", "--limit", "4").code == 75
    (run_id,) = shell.runs()
    for words, state in (
        (["pause"], "paused"),
        (["tune", "--max-rate", "200", "--in-flight", "auto", "--batch-size", "7"], "paused"),
        (["continue"], "working"),
        (["cancel"], "cancelled"),
    ):
        (line,) = told(shell.bulkup(words[0], run_id, *words[1:], "--json"))
        assert (line["type"], line["run_id"], line["verb"]) == ("steering", run_id, words[0])
        assert (line["state"], line["outcome"], line["changed"]) == (state, "nobody", True)
        for words in ([], ["--all"]):
            (listed,) = told(shell.bulkup("list", *words, "--json"))
            assert bool(listed["paused_by"]) == (state == "paused")
    assert (line["max_rate"], line["in_flight"], line["batch_size"]) == ("200", 0, 7)
    (error,) = told(shell.bulkup("pause", run_id, "--json"))
    assert error["message"].startswith(f"run {run_id} was cancelled by ")
    lines = told(shell.bulkup("resume", "--json"))
    assert [line["exit_code"] for line in lines if line["type"] == "summary"] == [0]


def test_every_command_with_json_is_tested_here() -> None:
    tested = {
        "run", "plan", "resume", "retry", "verify", "list", "show", "params", "migrate", "status",
        "config", "diff", "undo", "rewind", "updaters", "count", "find", "report", "logs",
        "pause", "continue", "cancel", "tune",
        "serve",  # in tests/web
        "rehearse",  # in tests/cli/test_rehearse.py
    }  # fmt: skip
    from bulkup.cli import cli

    for name in _COMMANDS:
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        has_json = any(p.name == "json" for p in command.params)  # type: ignore[union-attr]
        assert has_json == (name in tested), f"{name}: add it to a test above"
