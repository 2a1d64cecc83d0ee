"""What can be wrong with the target of a run."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from bulkup.datastore.retry import RetryPolicy
from tests.cli.shell import BUMP, TIMEOUT_S, Result, Shell, contents, seed
from tests.conftest import Server
from tests.emulators import free_port

pytestmark = pytest.mark.sampled(5)

INDEX_WANTED = """no matching index found. recommended index is:
- kind: Item
  properties:
  - name: colour
  - name: n
"""


@contextmanager
def answering(
    code: grpc.StatusCode, details: str, calls: Counter[str] | None = None
) -> Iterator[str]:
    """A real gRPC server that gives every call the same answer: errors of Google's that no
    emulator returns. `calls` counts what it is asked, by method."""

    class Refuse(grpc.GenericRpcHandler):  # type: ignore[type-arg]
        def service(self, call: Any) -> Any:
            def refuse(request: bytes, context: Any) -> bytes:
                if calls is not None:
                    calls[call.method.rpartition("/")[2]] += 1
                context.abort(code, details)
                return b""

            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Refuse()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def at(shell: Shell, host: str, project: str = "some-project") -> Shell:
    shell.environment |= {"DATASTORE_EMULATOR_HOST": host, "GOOGLE_CLOUD_PROJECT": project}
    return shell


@contextmanager
def silent() -> Iterator[str]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def of_another_kind() -> Iterator[str]:
    """A port that answers in a protocol that is not gRPC."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as background:

        def speak() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        background.submit(speak)
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Tried:
    address: str
    result: Result
    seconds: float
    runs: list[str]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tried]:
    """A run at each of several addresses, all at once, because each takes a while."""

    def try_it(name: str, address: str, *options: str) -> Tried:
        shell = at(Shell(tmp_path_factory.mktemp("tried")), address)
        shell.write("bump.py", BUMP)
        begun = time.monotonic()
        result = shell.bulkup("run", "bump.py", *options)
        return Tried(address, result, time.monotonic() - begun, shell.runs())

    with (
        silent() as silent_address,
        of_another_kind() as other_address,
        answering(grpc.StatusCode.RESOURCE_EXHAUSTED, "Quota exceeded.") as quota_address,
        ThreadPoolExecutor(6) as pool,
    ):
        closed = f"localhost:{free_port()}"
        asked = {
            "closed": pool.submit(try_it, "closed", closed),
            "silent": pool.submit(try_it, "silent", silent_address),
            "of another kind": pool.submit(try_it, "other", other_address),
            "unresolvable": pool.submit(try_it, "unresolvable", "no-such-host.invalid:8081"),
            "impatient": pool.submit(try_it, "impatient", closed, "--retry-for", "1s"),
            "no quota": pool.submit(try_it, "no quota", quota_address),
        }
        return {name: future.result() for name, future in asked.items()}


@pytest.mark.parametrize("name", ["closed", "silent", "of another kind", "unresolvable"])
def test_an_address_without_a_datastore_is_reported_within_seconds(
    tried: dict[str, Tried], name: str
) -> None:
    it = tried[name]
    it.result.fails(
        1, f"no Datastore answered at {it.address} (",
        "start the emulator, or unset DATASTORE_EMULATOR_HOST",
    )  # fmt: skip
    assert it.seconds < TIMEOUT_S < RetryPolicy.retry_for_s
    assert it.runs == []


def test_retry_for_holds_for_the_first_contact_too(tried: dict[str, Tried]) -> None:
    it = tried["impatient"]
    it.result.fails(1, "no Datastore answered at")
    assert it.seconds < tried["closed"].seconds


def test_a_server_without_quota_is_given_up_within_seconds(tried: dict[str, Tried]) -> None:
    it = tried["no quota"]
    it.result.fails(1, "exceeds a quota", "Quota exceeded.")
    assert it.seconds < TIMEOUT_S < RetryPolicy.retry_for_s
    assert it.runs == []


@pytest.mark.parametrize(
    ("code", "details", "exit_code", "says"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "Missing or insufficient permissions.", 1,
         ("not permitted in project some-project", "roles/datastore.user", "insufficient")),
        (grpc.StatusCode.UNAUTHENTICATED, "Request had invalid credentials.", 1,
         ("no usable Google credentials", "gcloud auth application-default login")),
        (grpc.StatusCode.NOT_FOUND, "The database (default) does not exist for project x", 1,
         ("project some-project has no such Datastore database", "--project", "--database")),
        (grpc.StatusCode.FAILED_PRECONDITION, INDEX_WANTED, 2,
         ("needs a composite index", "- kind: Item", "  - name: colour", "  - name: n")),
        (grpc.StatusCode.INVALID_ARGUMENT, "bad \x1b[31mquery", 2,
         ("cannot run the query (INVALID_ARGUMENT)", "bad", "query")),
    ],
    ids=lambda value: value.name if isinstance(value, grpc.StatusCode) else "",
)  # fmt: skip
def test_what_google_refuses_is_explained(
    nowhere: Shell, code: grpc.StatusCode, details: str, exit_code: int, says: tuple[str, ...]
) -> None:
    calls: Counter[str] = Counter()
    with answering(code, details, calls) as host:
        result = at(nowhere, host).bulkup("run", "bump.py").fails(exit_code, *says)
    assert set(calls.values()) == {1}, calls  # a refusal is not retried
    assert "\x1b" not in result.err
    assert nowhere.runs() == []


def test_without_credentials_the_ways_to_get_some_are_named(nowhere: Shell) -> None:
    nowhere.environment["GOOGLE_CLOUD_PROJECT"] = "some-project"
    nowhere.bulkup("run", "bump.py").fails(
        1, "no usable Google credentials", "gcloud auth application-default login",
        "GOOGLE_APPLICATION_CREDENTIALS", "DATASTORE_EMULATOR_HOST",
    )  # fmt: skip
    assert nowhere.runs() == []


def test_a_credentials_file_that_is_not_there_is_named(nowhere: Shell) -> None:
    nowhere.environment["GOOGLE_APPLICATION_CREDENTIALS"] = "/no/such/key.json"
    nowhere.bulkup("run", "bump.py").fails(1, "credentials", "/no/such/key.json")


def test_without_a_project_the_ways_to_name_one_are_listed(lf_shell: Shell) -> None:
    del lf_shell.environment["GOOGLE_CLOUD_PROJECT"]
    lf_shell.bulkup("run", "bump.py").fails(1, "no project is set", "--project")
    assert lf_shell.runs() == []


@pytest.mark.parametrize("scheme", ["http://", "https://"])
def test_an_emulator_host_that_is_a_url_is_refused(nowhere: Shell, scheme: str) -> None:
    at(nowhere, f"{scheme}localhost:8081").bulkup("run", "bump.py").fails(
        2, "DATASTORE_EMULATOR_HOST", "host:port", "localhost:8081"
    )
    assert nowhere.runs() == []


@pytest.mark.parametrize("host", ["localhost", ":8081", "local host:8081"])
def test_an_emulator_host_that_is_not_valid_is_one_sentence(nowhere: Shell, host: str) -> None:
    at(nowhere, host).bulkup("run", "bump.py").fails(
        2, "DATASTORE_EMULATOR_HOST", host, "host:port"
    )
    assert nowhere.runs() == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--project", "my project"), ("--project", "a/b"), ("--project", "\x1b[31mred"),
        ("--database", "a?b"), ("--database", "a b"), ("--namespace", "a b"),
        ("--namespace", "naïve"), ("--namespace", "\x1b]0;owned\x07"), ("--namespace", "n" * 101),
        ("--project", "naïve"),
    ],
)  # fmt: skip
def test_hostile_names_of_a_target_are_refused(
    lf_shell: Shell, lf: Server, option: str, value: str
) -> None:
    seed(lf, 2)
    before = contents(lf)
    result = lf_shell.bulkup("run", "bump.py", option, value).fails(2)
    assert "\x1b" not in result.err
    assert lf_shell.runs() == []
    assert contents(lf) == before


def test_a_project_without_entities_is_an_empty_run_that_says_so(
    lf_shell: Shell, lf: Server
) -> None:
    result = lf_shell.bulkup("run", "bump.py", "--project", "another-project")
    assert result.code == 0
    assert "another-project" in result.err
    assert "Finished: 0 entities handled" in result.out


def test_a_key_in_place_of_its_path_is_not_printed(nowhere: Shell) -> None:
    """A CI variable often holds the key itself instead of the name of its file."""
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----\n"
    nowhere.environment.pop("DATASTORE_EMULATOR_HOST", None)
    nowhere.environment["GOOGLE_APPLICATION_CREDENTIALS"] = json.dumps(
        {"type": "service_account", "private_key": key}
    )
    for options in ([], ["-v"], ["--json"]):
        result = nowhere.bulkup("run", "bump.py", "--project", "p", *options)
        assert result.code == 1, result
        assert "no usable Google credentials" in result.out + result.err
        assert "MIIE" not in result.out + result.err


def test_a_similar_file_is_named_beside_one_that_is_not_there(nowhere: Shell) -> None:
    nowhere.write("data/shop.db", "")
    (nowhere.folder / "data/shop.bdb").mkdir()
    run = ("run", "bump.py", "--local")
    nowhere.bulkup(*run, "data/shop.bd").fails(2, "data/shop.bd' (did you mean 'data/shop.db'?);")
    assert "did you mean" not in nowhere.bulkup(*run, "data/other.sqlite").err
    assert "did you mean" not in nowhere.bulkup(*run, "no/folder/shop.bd").err
