"""Google's own Datastore emulators, started for the tests.

LF  the Cloud SDK's datastore emulator in Firestore-in-Datastore mode (the everyday one)
L   the same jar in its legacy mode: 25 entity groups in a transaction
FS  the Firestore emulator in Datastore mode

They are found through CLOUDSDK_ROOT or `gcloud` on the PATH, and need `java`. Each answers only
on loopback. shared_servers.py starts them, and kills them when the tests end.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

START_TIMEOUT_S = 90
"""A cold JVM on a busy machine of 2 cores needs up to 20 s."""


def sdk_root() -> Path | None:
    named = os.environ.get("CLOUDSDK_ROOT")
    if named:
        return Path(named)
    gcloud = shutil.which("gcloud")
    return Path(gcloud).resolve().parent.parent if gcloud else None


def why_missing() -> str | None:
    """A sentence, when the emulators cannot be started on this machine."""
    root = sdk_root()
    if root is None:
        return "no Cloud SDK: put gcloud on the PATH or set CLOUDSDK_ROOT"
    for jar in (_datastore_jar(root), _firestore_jar(root)):
        if not jar.exists():
            return f"the Cloud SDK has no emulator at {jar}"
    if shutil.which("java") is None:
        return "no java on the PATH"
    return None


def require() -> None:
    """Skip, or fail where BULKUP_REQUIRE_EMULATORS says that they must be there."""
    reason = why_missing()
    if reason:
        if os.environ.get("BULKUP_REQUIRE_EMULATORS"):
            pytest.fail(f"BULKUP_REQUIRE_EMULATORS is set, but {reason}")
        pytest.skip(f"Google's emulators are not here: {reason}")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@contextlib.contextmanager
def emulator(name: str) -> Iterator[str]:
    """Run the emulator LF, L or FS; gives its `host:port`."""
    require()
    root = sdk_root()
    assert root is not None
    port = _port_for_later()
    with tempfile.TemporaryDirectory(prefix="bulkup-emulator-") as scratch:
        log = Path(scratch) / "log"
        command = _command(root, name, port, Path(scratch))
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            _await_answer(process, port, log)
            yield f"localhost:{port}"
        finally:
            process.kill()
            process.wait()


def _port_for_later() -> int:
    """A port that stays free until the JVM binds it, seconds later.

    It is below those that the system gives to connections, which other tests open all the time.
    """
    for port in random.SystemRandom().sample(range(10_000, 32_000), 100):
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port between 10000 and 32000")


def _datastore_jar(root: Path) -> Path:
    return root / "platform/cloud-datastore-emulator/CloudDatastore.jar"


def _firestore_jar(root: Path) -> Path:
    return root / "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"


def _command(root: Path, name: str, port: int, scratch: Path) -> list[str]:
    java = [
        "java", "-Xmx3g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
        # Else a JVM that is killed leaves files in /tmp.
        "-XX:-UsePerfData", f"-Djava.io.tmpdir={scratch}",
    ]  # fmt: skip
    if name == "FS":
        return [
            *java, "-Duser.language=en", "-cp", str(_firestore_jar(root)),
            "com.google.cloud.datastore.emulator.firestore.CloudFirestore",
            "--host=localhost", f"--port={port}", "--database-mode=datastore-mode",
        ]  # fmt: skip
    main = [
        *java, "-cp", str(_datastore_jar(root)),
        "com.google.cloud.datastore.emulator.CloudDatastore",
    ]  # fmt: skip
    folder = scratch / "data"
    # What its command `create` would make, in a second of CPU.
    (folder / "WEB-INF").mkdir(parents=True)
    (folder / "WEB-INF" / "index.yaml").write_text("indexes:\n")
    mode = "--firestore_in_datastore_mode" if name == "LF" else "--consistency=1.0"
    return [
        *main, "start", "--host=localhost", f"--port={port}", "--store_on_disk=false", mode,
        str(folder),
    ]  # fmt: skip


def _await_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"http://localhost:{port}/", timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)  # between two tries; an answer ends the wait
    text = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"the emulator did not start: {text}")
