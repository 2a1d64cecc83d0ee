"""Health gates: while a check says no, the run holds, shows why, and goes on by itself."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.core.errors import Exit, UsageError
from bulkup.core.events import Event, Held, Released, RunState
from bulkup.core.vitals import Phase
from bulkup.core.window import Window
from bulkup.datastore.server_time import ServerTime
from bulkup.engine import health
from bulkup.engine.control import CHECK_EVERY_S
from bulkup.engine.gates import WindowGate
from bulkup.engine.health import CommandCheck, HealthGate, UrlCheck, shown_url
from bulkup.engine.options import Options, checked_url
from tests.cli.shell import BUMP, Shell, ended, seed
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill

SIZE = 60


@bulkup.updater(kind="Thing")
def up(entity: Entity) -> Entity:
    entity["n"] += 1
    return entity


class Patient:
    """An HTTP server that is well, sick, or does not answer."""

    def __init__(self) -> None:
        self.status = 200
        self.hangs = False
        self.asked: list[tuple[str, str]] = []
        self.answered = threading.Event()
        patient = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                patient.asked.append((self.path, self.headers.get("Authorization", "")))
                if patient.hangs:
                    patient.answered.wait(60)
                self.send_response(patient.status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}/healthz"

    def close(self) -> None:
        self.answered.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def patient() -> Iterator[Patient]:
    server = Patient()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "ASK_EVERY_S", 0.02)


def told(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events if isinstance(event, (Held, Released))]


def test_a_server_that_turns_sick_and_well(embedded: Server, run: Run, patient: Patient) -> None:
    client = fill(embedded, "Thing", SIZE, n=0)
    patient.status = 503
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, Held):
            assert sum(thing["n"] for thing in everything(client, "Thing")) in (0, done)
            if "503" in event.why:
                patient.status = 200

    def sicken(entity: Entity) -> Entity:
        nonlocal done
        if entity["i"] == 30 and not done:
            done = 30
            patient.status = 503
            asked = len(patient.asked)
            wait_for(lambda: len(patient.asked) >= asked + 2)
            time.sleep(CHECK_EVERY_S)  # the next check is then due
        return up(entity)

    done = 0
    updater = bulkup.updater(kind="Thing")(sicken)
    report = run(embedded, updater, listener=listen, health_url=patient.url, batch_size=500)
    assert (report.exit_code, report.counts.handled) == (Exit.DONE, SIZE)
    assert [thing["n"] for thing in everything(client, "Thing")] == [1] * SIZE
    whys = [event.why for event in events if isinstance(event, Held)]
    check = f"the health check {patient.url}"
    assert whys == [
        f"{check} says 503 Service Unavailable",
        f"{check} says 503 Service Unavailable",
    ]
    assert told(events) == [Held, Released, Held, Released]


def wait_for(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_a_run_that_is_held_too_long_stops_and_is_resumed(
    embedded: Server, run: Run, patient: Patient
) -> None:
    client = fill(embedded, "Thing", SIZE, n=0)
    patient.status = 500
    report = run(embedded, up, health_url=patient.url, max_hold_s=0.3)
    assert (report.state, report.exit_code) == (RunState.STOPPED, Exit.LIMIT)
    assert report.reason == (
        f"held for too long (--max-hold): the health check {patient.url} says 500 Internal Server "
        "Error"
    )
    assert f"--health-url {patient.url} --max-hold 0.3s" in report.next_command
    assert {thing["n"] for thing in everything(client, "Thing")} == {0}
    assert run(embedded, up).exit_code == Exit.DONE


ASKED: list[int] = []


class Moody(bulkup.Updater):
    """Well at the third question."""

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def healthy(self) -> bool | str | None:
        ASKED.append(self.client.get(self.client.key("Thing", 1))["i"])
        if len(ASKED) == 1:
            raise ValueError("no idea")
        return None if len(ASKED) > 2 else "a headache\x1b[2J"

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] += 1
        self.put(entity)


def test_the_updater_itself_says_whether_it_may_work(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", SIZE, n=0)
    ASKED.clear()
    events: list[Event] = []
    report = run(embedded, Moody, listener=events.append)
    assert report.counts.puts == SIZE
    whys = {event.why for event in events if isinstance(event, Held)}
    assert whys <= {
        "healthy of Moody has not answered yet",
        "healthy of Moody raised ValueError: no idea",
        "healthy of Moody failed: a headache\x1b[2J",
    }
    assert set(ASKED) == {1}
    assert len(ASKED) >= 3


def test_a_function_has_a_check_as_an_argument(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 3, n=0)
    answers = iter([False, "not yet"])
    updater = bulkup.updater(kind="Thing", healthy=lambda: next(answers, True))(lambda _: None)
    assert run(embedded, updater).exit_code == Exit.DONE
    assert next(answers, None) is None
    with pytest.raises(UsageError, match="healthy= takes a function"):
        bulkup.updater(kind="Thing", healthy=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("echo a; echo 'no response'; exit 2", ": no response"),
        ("echo no response; echo down >&2; exit 2", ": down"),
        ("exit 2", ""),
        ("echo fine; exit 0", None),
    ],
)
def test_the_reason_is_the_last_line_that_a_command_prints(command: str, why: str | None) -> None:
    answer = "" if why is None else f"the health command ended with exit code 2{why}"
    assert CommandCheck(command).ask() == answer


def test_a_command_says_whether_the_run_may_work(
    embedded: Server, run: Run, tmp_path: Path
) -> None:
    fill(embedded, "Thing", SIZE, n=0)
    sign = tmp_path / "go"
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, Held) and "exit code 1" in event.why:
            sign.touch()

    command = f"test -e {sign} || {{ echo not yet; echo too busy >&2; exit 1; }}"
    report = run(embedded, up, listener=listen, health_cmd=command)
    assert report.counts.puts == SIZE
    assert "the health command ended with exit code 1: too busy" in [
        event.why for event in events if isinstance(event, Held)
    ]


def test_a_check_that_hangs_says_no_and_blocks_nothing(
    monkeypatch: pytest.MonkeyPatch, patient: Patient, tmp_path: Path
) -> None:
    monkeypatch.setattr(health, "ANSWER_WITHIN_S", 0.2)
    patient.hangs = True
    child = tmp_path / "pid"
    hanging = HealthGate([CommandCheck(f"sleep 1000 & echo $! > {child}; wait")], time.monotonic)
    why = "the health command has not answered for 0 s"
    wait_for(lambda: reason_of(hanging) == why)
    wait_for(lambda: "was ended by signal 9" in reason_of(hanging) or child.exists())
    hanging.close()
    wait_for(lambda: has_ended(int(child.read_text())))
    url = HealthGate([UrlCheck(patient.url)], time.monotonic)
    wait_for(lambda: "has not answered for 0 s" in reason_of(url))
    url.close()


def test_a_command_that_starts_while_the_run_ends_does_not_survive_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    begins, goes_on = threading.Event(), threading.Event()

    class Slow(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            begins.set()
            assert goes_on.wait(10)
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(health.subprocess, "Popen", Slow)
    gate = HealthGate([CommandCheck("exec sleep 1000")], time.monotonic)
    assert gate.reason()
    assert begins.wait(10)
    threading.Timer(0.1, goes_on.set).start()
    gate.close()
    (process,) = started
    wait_for(lambda: has_ended(process.pid))


def test_a_command_that_hangs_ends_with_a_run_that_is_killed(
    embedded: Server, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP)
    seed(embedded, 3)
    pids = tmp_path / "pids"
    hangs = f"sleep 1000 & echo $$ $! >{pids}.new; mv {pids}.new {pids}; trap '' HUP TERM; wait"
    process = shell.begin("run", "bump.py", "--health-cmd", hangs)
    wait_for(pids.exists)
    process.kill()
    assert ended(process).code == -signal.SIGKILL
    wait_for(lambda: all(has_ended(int(pid)) for pid in pids.read_text().split()))


def test_a_command_that_has_answered_leaves_no_process(tmp_path: Path) -> None:
    """Nor a dead one that nobody has waited for."""
    session = tmp_path / "session"
    assert CommandCheck(f"echo $PPID >{session}").ask() == ""
    left = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            left.append(stat.read_text().rpartition(")")[2].split()[3])
    assert left
    assert session.read_text().strip() not in left
    assert CommandCheck("kill -KILL $$").ask() == "the health command ended with exit code 137"


def test_nothing_is_asked_any_more_once_a_run_has_ended() -> None:
    check = CommandCheck("touch never")
    check.close()
    assert "the run has ended" in check.ask()
    assert not Path("never").exists()


def reason_of(gate: HealthGate) -> str:
    reason = gate.reason()
    assert reason is None or reason.phase is Phase.HELD
    return "" if reason is None else reason.why


def has_ended(pid: int) -> bool:
    with suppress(OSError):
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    return True


def test_a_stop_ends_a_run_whose_check_hangs(embedded: Server, run: Run, patient: Patient) -> None:
    fill(embedded, "Thing", SIZE, n=0)
    patient.hangs = True

    def listen(event: Event) -> None:
        if isinstance(event, Held):
            assert event.why == f"the health check {patient.url} has not answered yet"
            signal.raise_signal(signal.SIGINT)

    report = run(embedded, up, listener=listen, health_url=patient.url)
    assert (report.state, report.exit_code) == (RunState.INTERRUPTED, Exit.SIGINT)
    assert report.elapsed_s < 30


def test_what_is_secret_in_a_url_is_sent_and_not_shown(patient: Patient) -> None:
    url = f"http://ann:s%40cret@{patient.host}/ready?token=abc"
    patient.status = 302
    check = UrlCheck(url)
    assert check.ask() == f"the health check http://{patient.host}/ready?… says 302 Found"
    assert patient.asked == [("/ready?token=abc", "Basic YW5uOnNAY3JldA==")]
    assert UrlCheck(patient.url).name == f"the health check {patient.url}"
    options = Options(
        health_url=url, health_cmd="curl -H 'Authorization: Bearer abcdefghijklmno' x"
    )
    assert options.words() == []
    assert Options().or_as(options.asked()) == options
    for shown in (check.name, check.ask(), shown_url(url)):
        assert "s%40cret" not in shown
        assert "abc" not in shown
        assert "ann" not in shown


@pytest.mark.parametrize(
    "url",
    ["ftp://x/", "http://", "x", "http://x y/", "http://[::1/", "http://x:99999/", "file:///"],
)
def test_what_is_not_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match=r"\(--health-url\) does not begin with http://") as raised:
        checked_url(url)
    assert url not in raised.value.message.replace("http://", "") or url in "x"


def test_an_unreachable_server_is_a_no() -> None:
    (why,) = {UrlCheck("http://127.0.0.1:1/").ask()}
    assert why.startswith("the health check http://127.0.0.1:1/ cannot be reached: ")


def test_a_window_holds_the_run_until_it_opens() -> None:
    now = Window.parse("22:00-06:00 Europe/Zurich").opens(1_790_000_000).timestamp() - 1
    gate = WindowGate(Window.parse("22:00-06:00 Europe/Zurich"), lambda: now)
    reason = gate.reason()
    assert reason is not None
    assert reason.why == "outside the window 22:00-06:00 Europe/Zurich (--window)"
    assert reason.until is not None
    assert reason.until.timestamp() == now + 1
    assert not reason.gives_up
    now += 1
    assert gate.reason() is None
    now += 8 * 3600
    assert gate.reason() is not None


def test_a_run_works_in_its_window_alone(
    embedded: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's clock is ahead by hours at each turn."""
    client = fill(embedded, "Thing", SIZE, n=0)
    now, window = ServerTime.now, Window.parse("22:00-06:00 Europe/Zurich")
    ahead_s = 0.0
    monkeypatch.setattr(ServerTime, "now", lambda self: now(self) + ahead_s)
    noon = datetime.now(ZoneInfo("Europe/Zurich")).replace(hour=12, minute=0)
    ahead_s = noon.timestamp() - time.time()
    events: list[Event] = []

    def listen(event: Event) -> None:
        nonlocal ahead_s
        events.append(event)
        if isinstance(event, Held):
            assert event.until is not None
            assert f"{event.until:%H:%M}" == "22:00"
            written.append(sum(thing["n"] for thing in everything(client, "Thing")))
            ahead_s += 11 * 3600

    def slow(entity: Entity) -> Entity:
        nonlocal ahead_s
        if entity["i"] == 30 and len(written) == 1:
            ahead_s += 13 * 3600
            time.sleep(CHECK_EVERY_S)  # the next check is then due
        entity["n"] += 1
        return entity

    written: list[int] = []
    updater = bulkup.updater(kind="Thing")(slow)
    report = run(embedded, updater, listener=listen, window=str(window), batch_size=10)
    assert (report.exit_code, report.counts.puts) == (Exit.DONE, SIZE)
    assert written == [0, 30]
    assert told(events) == [Held, Released, Held, Released]


def test_options_of_a_gate_are_kept_and_can_be_taken_away() -> None:
    options = Options(window="22:00-6:00 UTC", health_cmd="true", max_hold_s=90.0)
    assert options.words() == [
        "--health-cmd", "true", "--max-hold", "90s", "--window", "22:00-06:00 UTC",
    ]  # fmt: skip
    assert Options().or_as(options.asked()) == options
    assert Options(window="off").or_as(options.asked()).window == "off"


def test_a_run_that_is_begun_again_without_its_checks_says_so(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", SIZE, n=0)
    checks = {"health_cmd": "true", "window": "00:00-23:59 UTC"}
    assert run(embedded, up, limit=10, batch_size=10, **checks).exit_code is Exit.LIMIT
    report = run(embedded, up, limit=10, batch_size=10, **checks)
    assert not any("works without" in warning for warning in report.warnings)
    report = run(embedded, up, limit=10, batch_size=10, health_cmd="off")
    (warning,) = [warning for warning in report.warnings if "works without" in warning]
    assert "has no --window, which the run had until now" in warning
    assert f"`bulkup resume {report.run_id}`" in warning
    report = run(embedded, up, batch_size=10)
    assert report.exit_code is Exit.DONE
    assert not any("works without" in warning for warning in report.warnings)


def test_a_max_hold_without_a_check_is_said_to_do_nothing(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", SIZE, n=0)
    report = run(embedded, up, max_hold_s=60)
    assert any("--max-hold does nothing without" in warning for warning in report.warnings)
    report = run(embedded, up, max_hold_s=60, health_cmd="true")
    assert not any("--max-hold" in warning for warning in report.warnings)
