"""A user at a shell: real `bulkup` processes in their own folder, and the contents of Datastore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import grpc
from google.cloud import datastore
from google.cloud.datastore_v1.types import datastore as types
from google.cloud.datastore_v1.types import entity as entity_types

from bulkup.state.kinds import MARKER_KIND, OWN_KINDS
from tests.cli.nursery import REPOSITORY
from tests.conftest import Server

TIMEOUT_S = 300
"""A hung process must fail its test, not the whole session; a busy machine must not."""

BUMP = dedent("""
    from bulkup import Updater, param

    class Bump(Updater):
        '''Count every Item up.'''

        step: int = param(1)

        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            entity["n"] += self.step
            self.put(entity)
""")
"""Not idempotent on purpose, so that an entity handled twice, or never, is noticed."""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Standard output of `--json`; fails if there is anything but JSON objects."""
        objects = [json.loads(line) for line in self.out.splitlines()]
        assert all(isinstance(o, dict) for o in objects)
        return objects

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["type"] == kind]

    @property
    def summary(self) -> dict[str, Any]:
        (found,) = self.of_type("summary")
        return found

    def fails(self, code: int, *texts: str) -> Result:
        """The command ended with one sentence that holds `texts`, without a traceback of bulkup."""
        assert self.code == code, self
        assert self.out == ""
        sentence, *details = self.err.strip().splitlines()
        assert sentence.startswith("Error: "), self.err
        assert "bug in bulkup" not in self.err
        assert all(line.startswith("  ") for line in details), self.err
        for text in texts:
            assert text in self.err, self.err
        return self


class Shell:
    """Processes see only `environment`: no credentials and no project of the machine."""

    def __init__(self, folder: Path, server: Server | None = None) -> None:
        self.folder = folder
        self.state_dir = folder / ".bulkup"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "error::ResourceWarning",
            "LANG": "C.UTF-8",
            "COLUMNS": "120",
            "NO_GCE_CHECK": "true",  # google.auth would spend seconds looking for a metadata server
        }
        if server:
            self.environment["DATASTORE_EMULATOR_HOST"] = server.host
            self.environment["GOOGLE_CLOUD_PROJECT"] = server.project

    def write(self, name: str, source: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source))
        return path

    def start(self, *args: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command from nothing; `ended` waits for it."""
        return self._started(["-m", "bulkup", *map(str, args)], env, executable=sys.executable)

    def begin(self, *args: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command in a process that is forked from a warm one; `ended` waits for it."""
        return self._started(["-m", "bulkup", *map(str, args)], env)

    def bulkup(
        self, *args: object, env: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
    ) -> Result:
        """Run a command to its end, in a process forked from a preloaded one."""
        return _result(self.begin(*args, env=env), timeout_s)

    def begin_script(self, source: str) -> subprocess.Popen[str]:
        """Start a Python script in a process that is forked from a warm one."""
        return self._started(["-c", dedent(source)])

    def script(self, source: str, timeout_s: float = TIMEOUT_S) -> Result:
        """Run a Python script in a process that is forked from a warm one."""
        return _result(self.begin_script(source), timeout_s)

    def python(self, source: str, timeout_s: float = TIMEOUT_S) -> Result:
        """Run a Python script in a new interpreter."""
        cold = self._started(["-c", dedent(source)], executable=sys.executable)
        return _result(cold, timeout_s)

    def _started(
        self, words: list[str], env: Mapping[str, str] | None = None, **options: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *words],
            **options,  # type: ignore[call-overload]
            cwd=self.folder,
            env={**self.environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def runs(self) -> list[str]:
        """Ids of the runs in the state directory, oldest first."""
        return sorted(p.name for p in self.state_dir.iterdir()) if self.state_dir.exists() else []

    def checkpoint(self, run_id: str = "") -> Path:
        return self.state_dir / (run_id or self.runs()[-1]) / "checkpoint.sqlite"


def refuses_to_resume(
    shell: Shell, server: Server, *args: object, code: int, says: tuple[str, ...]
) -> None:
    """The command fails, and nothing changes in Datastore or in the run state."""
    before = contents(server)
    shell.bulkup("resume", *args).fails(code, *says)
    assert contents(server) == before


def _result(process: subprocess.Popen[str], timeout_s: float) -> Result:
    """Raises subprocess.TimeoutExpired after killing it."""
    with process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except BaseException:
            process.kill()
            raise
        return Result(process.returncode, out, err)


def ended(process: subprocess.Popen[str], timeout_s: float = TIMEOUT_S) -> Result:
    """Wait for a process; kill one that hangs, and fail with its output."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still running after {timeout_s} s: {out[-1000:]}\n{err}") from None
    assert process.returncode is not None
    return Result(process.returncode, out, err)


def seed(
    server: Server, count: int, kind: str = "Item", namespace: str | None = None, **properties: Any
) -> datastore.Client:
    """Put entities with the ids 1 to `count` and `n` = 0; return the client used."""
    client = server.client(**({"namespace": namespace} if namespace else {}))
    put(client, (entity(client, kind, i, n=0, **properties) for i in range(1, count + 1)))
    return client


def entity(client: datastore.Client, *path: Any, **properties: Any) -> datastore.Entity:
    made = datastore.Entity(client.key(*path))
    made.update(properties)
    return made


def put(client: datastore.Client, entities: Iterable[datastore.Entity]) -> None:
    waiting = list(entities)
    for start in range(0, len(waiting), 500):
        client.put_multi(waiting[start : start + 500], timeout=600)  # LF may be busy


def values(client: datastore.Client, kind: str = "Item", name: str = "n") -> dict[Any, Any]:
    """One property of all entities of a kind, by id or name."""
    return {e.key.id_or_name: e.get(name) for e in client.query(kind=kind).fetch()}


def user_data(server: Server, *namespaces: str) -> dict[bytes, tuple[int, bytes]]:
    """`contents` without the entities that bulkup keeps about its runs."""
    everything = contents(server, *namespaces)
    return {key: found for key, found in everything.items() if not of_kind(key, *OWN_KINDS)}


def markers(server: Server, *namespaces: str) -> list[bytes]:
    """Keys of the markers that runs left behind."""
    return [key for key in contents(server, *namespaces) if of_kind(key, MARKER_KIND)]


def of_kind(key: bytes, *kinds: str) -> bool:
    return entity_types.Key.pb().FromString(key).path[-1].kind in kinds


def contents(server: Server, *namespaces: str) -> dict[bytes, tuple[int, bytes]]:
    """Everything in these namespaces, by default the default one: key -> version, bytes."""
    found: dict[bytes, tuple[int, bytes]] = {}
    request_type: Any = types.RunQueryRequest.pb()
    anything = [("grpc.max_receive_message_length", -1)]  # FS answers with a whole kind
    with grpc.insecure_channel(server.host, anything) as channel:
        run_query = channel.unary_unary(
            "/google.datastore.v1.Datastore/RunQuery",
            request_serializer=request_type.SerializeToString,
            response_deserializer=types.RunQueryResponse.pb().FromString,
        )
        for namespace in namespaces or ("",):
            request = request_type(project_id=server.project)
            request.partition_id.project_id = server.project
            request.partition_id.namespace_id = namespace
            request.query.SetInParent()
            while True:
                batch = run_query(request, timeout=600).batch
                for result in batch.entity_results:
                    key = result.entity.key.SerializeToString(deterministic=True)
                    raw = result.entity.SerializeToString(deterministic=True)
                    found[key] = (result.version, raw)
                if not batch.entity_results:
                    break
                request.query.start_cursor = batch.end_cursor
    return found
