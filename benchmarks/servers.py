"""The servers that are measured: the embedded Datastore, and Google's emulators as gcloud runs
them, with no limit on the JVM's compilers or memory (the tests' own emulators start faster)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bulkup.local.process import start_local
from tests.emulators import free_port, sdk_root

START_TIMEOUT_S = 90


@dataclass(frozen=True)
class Server:
    name: str
    host: str
    pid: int

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def reset_peak(self) -> None:
        """Let the peak of memory start anew, at what is used now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """Peak resident memory since `reset_peak`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024


@contextlib.contextmanager
def embedded() -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="bulkup-benchmark-") as folder,
        start_local(str(Path(folder) / "benchmark.datastore")) as server,
    ):
        yield Server("embedded", server.host, server.pid)


@contextlib.contextmanager
def google(name: str) -> Iterator[Server]:
    """LF or FS, as in tests/emulators.py."""
    root = sdk_root()
    if root is None:
        raise SystemExit("Google's emulators are not here: put gcloud on the PATH")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bulkup-benchmark-") as scratch:
        log = Path(scratch) / "log"
        command = _command(root, name, port, Path(scratch) / "data")
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            _await_answer(process, port, log)
            yield Server(name, f"localhost:{port}", process.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def sdk_version() -> str:
    """The version of the Cloud SDK that has the emulators; empty without one."""
    root = sdk_root()
    return (root / "VERSION").read_text().strip() if root else ""


def _command(root: Path, name: str, port: int, folder: Path) -> list[str]:
    if name == "FS":
        jar = root / "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
        return [
            "java", "-Duser.language=en", "-cp", str(jar),
            "com.google.cloud.datastore.emulator.firestore.CloudFirestore",
            "--host=localhost", f"--port={port}", "--database-mode=datastore-mode",
        ]  # fmt: skip
    jar = root / "platform/cloud-datastore-emulator/CloudDatastore.jar"
    main = ["java", "-cp", str(jar), "com.google.cloud.datastore.emulator.CloudDatastore"]
    subprocess.run([*main, "create", str(folder)], check=True, capture_output=True, timeout=60)
    return [
        *main, "start", "--host=localhost", f"--port={port}", "--store_on_disk=false",
        "--firestore_in_datastore_mode", str(folder),
    ]  # fmt: skip


def _await_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://localhost:{port}/", timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)  # between two tries; the condition is the answer itself
    raise SystemExit(f"the emulator did not start: {log.read_text(errors='replace')[-2000:]}")
