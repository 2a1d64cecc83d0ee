"""`bulkup serve` as a process: the link, the port, and its end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import Shell, ended

pytestmark = pytest.mark.sampled(5)


def served(process: subprocess.Popen[str]) -> str:
    """The link that it prints."""
    assert process.stdout is not None
    line = json.loads(process.stdout.readline())
    keeps_the_contract([line])
    assert (line["type"], line["port"]) == ("serving", urlsplit(line["url"]).port)
    return str(line["url"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_while_browsers_watch(nowhere: Shell, number: signal.Signals) -> None:
    process = nowhere.begin("serve", "--json")
    url = served(process)
    base = url.partition("?")[0]
    with httpx.Client(timeout=60) as client:
        assert client.get(url).status_code == 200
        cookie = "; ".join(f"{one.name}={one.value}" for one in client.cookies.jar)
        with (
            client.stream("GET", f"{base}events/runs") as events,
            socket.create_connection(("127.0.0.1", urlsplit(url).port)) as stuck,
        ):
            lines = events.iter_lines()
            while not next(lines).startswith("data: "):
                pass
            # One that asks for events and never reads them.
            request = f"GET {urlsplit(base).path}events/runs HTTP/1.1\r\nHost: "
            stuck.sendall(f"{request}{urlsplit(url).netloc}\r\nCookie: {cookie}\r\n\r\n".encode())
            process.send_signal(number)
            assert "event: end" in list(lines)
        result = ended(process)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert not (nowhere.folder / ".bulkup").exists()


def test_a_person_is_told_the_link_and_how_to_end_it(nowhere: Shell) -> None:
    process = nowhere.begin("serve", "--no-open")
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    result = ended(process)
    assert result.code == 0
    assert "Ctrl-C" in result.err


def test_a_port_in_use_says_what_to_type(nowhere: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        nowhere.bulkup("serve", "--port", port).fails(2, f"port {port} is in use", "--port")


def test_only_this_machine_is_served(nowhere: Shell) -> None:
    process = nowhere.begin("serve", "--json")
    port = urlsplit(served(process)).port
    inodes = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    ]
    process.send_signal(signal.SIGINT)
    assert ended(process).code == 0
    assert inodes == [f"0100007F:{port:04X}"]


def test_without_the_extra_it_says_what_to_install(nowhere: Shell) -> None:
    result = nowhere.script("""
        import sys
        sys.modules["uvicorn"] = None
        from bulkup.cli import call
        sys.exit(call(["serve"]))
    """)
    result.fails(2, "uvicorn", "pip install 'bulkup[web]'")


def test_options_of_a_target_go_with_all(nowhere: Shell) -> None:
    result = nowhere.bulkup("serve", "--project", "shop")
    assert result.code == 2
    assert "--project goes with --all" in result.err
