"""The other ways to start a run: the environment, the confirmation on a terminal, Python."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from textwrap import dedent

import click
import pytest

import bulkup
from bulkup.cli import cli
from bulkup.core.errors import Exit
from tests.cli.nursery import REPOSITORY
from tests.cli.shell import Result, Shell, contents, ended, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.sampled(5)

# --- the environment ---


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("BATCH_SIZE", "0", "--batch-size"),
        ("IN_FLIGHT", "99", "--in-flight"),
        ("SHARDS", "65", "--shards"),
        ("PROCESSES", "none", "--processes"),
        ("MAX_RATE", "fast", "--max-rate"),
        ("MAX_FAILURES", "-7", "--max-failures"),
        ("LIMIT", "none", "--limit"),
        ("MAX_TIME", "never", "--max-time"),
        ("RETRY_FOR", "ages", "--retry-for"),
        ("CONFLICT_RETRIES", "x", "--conflict-retries"),
    ],
)
def test_every_number_is_read_and_checked(
    nowhere: Shell, variable: str, value: str, says: str
) -> None:
    result = nowhere.bulkup("run", "bump.py", env={f"BULKUP_RUN_{variable}": value})
    assert result.code == 2
    assert says in result.err
    assert value in result.err


SAMPLES = {
    "--webhook": "https://example.com/hook",
    "--health-url": "https://example.com/health",
    "--window": "22:00-06:00",
}
"""Of options that refuse a 7 at once."""


@pytest.mark.parametrize(
    "name",
    [
        "run",
        "resume",
        "list",
        "show",
        "abandon",
        "prune",
        "params",
        "migrate",
        "status",
        "mark",
        "unlock",
    ],
)
def test_every_option_has_its_own_environment_variable(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    for option in command.params:
        if not isinstance(option, click.Option):
            continue
        long_name = max(option.opts, key=len)
        variable = f"BULKUP_{name}_{long_name.lstrip('-').replace('-', '_')}".upper()
        sample = SAMPLES.get(long_name, "7") if not option.is_flag else "1"
        if isinstance(option.type, click.Choice):
            sample = option.type.choices[0]
        with monkeypatch.context() as patch:
            patch.setenv(variable, sample)
            context = command.make_context(
                name, ["x"] * len(command.params), auto_envvar_prefix=f"BULKUP_{name.upper()}",
                ignore_unknown_options=True, allow_extra_args=True,
                help_option_names=["-h", "--help"],  # the command keeps its first help option
            )  # fmt: skip
            source = context.get_parameter_source(option.name)
            assert source is click.core.ParameterSource.ENVIRONMENT, variable


def test_options_from_the_environment_work_like_typed_ones(lf_shell: Shell, lf: Server) -> None:
    seed(lf, 10)
    inside = seed(lf, 10, namespace="inside")
    outside = contents(lf)
    result = lf_shell.bulkup(
        "run", "bump.py",
        env={
            "BULKUP_RUN_PROJECT": lf.project,
            "BULKUP_RUN_NAMESPACE": "inside",
            "BULKUP_RUN_PARAM": "step=7",
            "BULKUP_RUN_LIMIT": "4",
            "BULKUP_RUN_BATCH_SIZE": "2",
            "BULKUP_RUN_JSON": "1",
            "BULKUP_RUN_STATE_DIR": "elsewhere",
            "GOOGLE_CLOUD_PROJECT": "not-this-one",
        },
    )  # fmt: skip
    assert result.code == 75, result
    assert sorted(values(inside).values()) == [0] * 6 + [7] * 4
    assert contents(lf) == outside
    assert result.summary["state_file"].startswith("elsewhere/")
    assert lf_shell.runs() == []
    listed = lf_shell.bulkup(
        "list", env={"BULKUP_LIST_STATE_DIR": "elsewhere", "BULKUP_LIST_JSON": "true"}
    )
    assert [row["params"] for row in listed.lines] == [{"step": "7"}]
    resumed = lf_shell.bulkup(
        "resume",
        env={"BULKUP_RESUME_STATE_DIR": "elsewhere", "BULKUP_RESUME_QUIET": "1"},
    )
    assert resumed.code == 0
    assert resumed.err == ""
    assert values(inside) == dict.fromkeys(range(1, 11), 7)


def test_what_is_typed_wins_over_the_environment(lf_shell: Shell, lf: Server) -> None:
    client = seed(lf, 5)
    result = lf_shell.bulkup(
        "run", "bump.py", "--limit", "2", env={"BULKUP_RUN_LIMIT": "4", "BULKUP_RUN_DRY_RUN": "0"}
    )
    assert result.code == 75
    assert sum(values(client).values()) == 2


@pytest.mark.parametrize("on", ["1", "true", "yes"])
def test_a_dry_run_from_the_environment_writes_nothing(
    lf_shell: Shell, lf: Server, on: str
) -> None:
    seed(lf, 3)
    before = contents(lf)
    result = lf_shell.bulkup("run", "bump.py", env={"BULKUP_RUN_DRY_RUN": on})
    assert result.code == 0
    assert "nothing was written" in result.out
    assert contents(lf) == before


# --- the confirmation ---

PRETEND_REAL = """
    import sys
    from bulkup.core.model import TargetInfo

    # A test can reach no real project; everything else is unchanged.
    TargetInfo.is_real = property(lambda self: {real})

    from bulkup.cli import main
    main(sys.argv[1:])
"""


def on_a_terminal(shell: Shell, typed: str, *args: str, real: bool = True) -> tuple[int, str]:
    """Run `bulkup ARGS` on its own terminal and type something; return exit code and screen."""
    terminal, theirs = pty.openpty()
    source = dedent(PRETEND_REAL.format(real=real))
    process = subprocess.Popen(
        [sys.executable, "-c", source, *args],
        cwd=shell.folder, env={**shell.environment, "TERM": "xterm"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    os.write(terminal, typed.encode())
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says EIO when the last process has closed its side
            break
        if not piece:
            break
        shown += piece
    os.close(terminal)
    return process.wait(timeout=30), shown.decode()


def test_on_a_terminal_a_real_project_needs_confirmation(lf_shell: Shell, lf: Server) -> None:
    client = seed(lf, 3)
    before = contents(lf)
    code, shown = on_a_terminal(lf_shell, "n\n", "run", "bump.py")
    assert f"Run Bump on project {lf.project}" in shown
    assert "nothing was started" in shown
    assert code == Exit.SIGINT
    assert contents(lf) == before
    assert lf_shell.runs() == []
    code, shown = on_a_terminal(lf_shell, "y\n", "run", "bump.py")
    assert code == 0, shown
    assert values(client) == dict.fromkeys(range(1, 4), 1)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("args", "real"),
    [(("--yes",), True), (("-n",), True), ((), False)],
    ids=["--yes", "dry run", "emulator"],
)
def test_a_harmless_run_needs_no_confirmation(
    lf_shell: Shell, lf: Server, args: tuple[str, ...], real: bool
) -> None:
    seed(lf, 3)
    code, shown = on_a_terminal(lf_shell, "", "run", "bump.py", *args, real=real)
    assert code == 0, shown
    assert "Run Bump on" not in shown


def test_without_a_terminal_nobody_is_asked(lf_shell: Shell, lf: Server) -> None:
    client = seed(lf, 3)
    source = dedent(PRETEND_REAL.format(real=True)).replace("sys.argv[1:]", "['run', 'bump.py']")
    assert lf_shell.python(source).code == 0
    assert values(client) == dict.fromkeys(range(1, 4), 1)


# --- Python ---


def test_run_from_python_gives_a_report(lf_shell: Shell, lf: Server) -> None:
    client = seed(lf, 6)
    result = lf_shell.python(
        """
        import bulkup

        @bulkup.updater(kind="Item")
        def add(entity, *, step: int = 1):
            entity["n"] += step
            return entity

        events = []
        report = bulkup.run(add, params={"step": 4}, listener=events.append)
        assert isinstance(report, bulkup.Report)
        assert report.success and report.exit_code == 0
        assert report.counts.puts == 6
        assert report.params == {"step": "4"}
        assert type(events[0]).__name__ == "RunStarted"
        assert events[-1].report is report

        again = bulkup.run("bump.py", state_dir="other", limit=2)
        assert not again.success and again.exit_code == 75
        assert again.next_command.startswith("bulkup resume ")

        dry = bulkup.run(add, dry_run=True)
        assert dry.dry_run and dry.counts.puts == 6

        try:
            bulkup.run(add, params={"stop": 4})
        except bulkup.BulkupError as error:
            assert "did you mean 'step'" in error.message
        else:
            raise AssertionError
        """
    )
    assert result.code == 0, result.err
    assert result.out == result.err == ""
    assert sorted(values(client).values()) == [4] * 4 + [5] * 2
    assert len(lf_shell.runs()) == 1


def test_several_runs_in_one_process_do_not_interfere(
    lf: Server, fs: Server, lf_shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    monkeypatch.chdir(lf_shell.folder)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    @bulkup.updater(kind="Item")
    def add(entity: dict[str, int], *, step: int) -> object:
        entity["n"] += step
        return entity

    clients = {server: seed(server, 5) for server in (lf, fs)}
    for server, step, n in ((lf, 1, 1), (fs, 10, 10), (lf, 100, 101)):
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
        report = bulkup.run(add, params={"step": step}, project=server.project)
        assert report.success
        assert set(values(clients[server]).values()) == {n}
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert len(lf_shell.runs()) == 3


def test_python_m_bulkup_is_bulkup(lf_shell: Shell, lf: Server) -> None:
    client = seed(lf, 3)
    result = ended(lf_shell.start("run", "bump.py", "--json"))
    assert result.code == 0
    assert result.summary["counts"]["puts"] == 3
    assert values(client) == dict.fromkeys(range(1, 4), 1)


def test_a_dotted_name_from_the_current_directory(lf_shell: Shell, lf: Server) -> None:
    client = seed(lf, 3)
    lf_shell.write("package/inner.py", (lf_shell.folder / "bump.py").read_text())
    assert lf_shell.bulkup("run", "package.inner:Bump", "--limit", "1").code == 75
    assert lf_shell.bulkup("resume").code == 0
    assert lf_shell.bulkup("run", "bump:Bump").code == 0
    assert values(client) == dict.fromkeys(range(1, 4), 2)


def test_the_test_runs_find_the_code_under_test(nowhere: Shell) -> None:
    """Otherwise an installed copy would be tested unnoticed."""
    found = nowhere.python("import bulkup; print(bulkup.__file__)")
    assert found == Result(0, f"{REPOSITORY / 'bulkup' / '__init__.py'}\n", "")


def test_a_run_on_a_local_file_stops_and_resumes(nowhere: Shell) -> None:
    from bulkup.local.process import start_local

    file = nowhere.folder / "data.db"
    with start_local(str(file)) as served:
        client = seed(Server("EM", served.host, "local"), 8)
        assert sum(values(client).values()) == 0
    stopped = nowhere.bulkup("run", "bump.py", "--local", "data.db", "--limit", "3")
    assert stopped.code == 75, stopped
    assert "in " + str(file) in stopped.out
    # An emulator in the environment is not where the changes are.
    ignored = nowhere.bulkup(
        "run", "bump.py", "--local", "data.db", "-n",
        env={"DATASTORE_EMULATOR_HOST": "localhost:1"},
    )  # fmt: skip
    assert "Warning: DATASTORE_EMULATOR_HOST (localhost:1) is not used: this" in ignored.err
    assert nowhere.bulkup("resume").code == 0
    with start_local(str(file)) as served:
        client = Server("EM", served.host, "local").client()
        assert values(client) == dict.fromkeys(range(1, 9), 1)
