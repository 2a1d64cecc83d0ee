"""How many calls one entity takes, from `bulkup run` to its report: `python -m benchmarks.calls`.

Runs the command on one entity of an in-memory embedded Datastore (another process), with a profile
hook on every thread, and counts what happens in files of the package:

    calls           of Python functions; a generator counts once for each time it is resumed.
                    Module bodies, class bodies, comprehensions and lambdas do not count.
    functions       that were called
    files           that hold them
    file switches   calls whose file is not that of the call before
    frames          of the package on the stack when the handler is called
    more            what each further entity of the batch adds: calls and file switches
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import bulkup

PACKAGE = os.path.join(os.path.dirname(os.path.abspath(bulkup.__file__)), "")

UPDATER = """
import bulkup

@bulkup.updater(kind="Thing")
def double(thing):
    import benchmarks.calls
    benchmarks.calls.note_depth()
    thing["n"] *= 2
    return thing
"""

MORE = 50
"""Entities of the second run beside the first one."""

calls: Counter[str] = Counter()
order: list[str] = []
depths: list[list[str]] = []


def note_depth() -> None:
    """Called by the handler: keep the frames of the package that are above it."""
    frame: FrameType | None = sys._getframe(1)
    names = []
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            names.append(
                f"{os.path.relpath(frame.f_code.co_filename, PACKAGE)}:{frame.f_code.co_name}"
            )
        frame = frame.f_back
    depths.append(names)


def count(frame: FrameType, event: str, _: Any) -> None:
    """The profile hook."""
    code = frame.f_code
    if event != "call" or not code.co_filename.startswith(PACKAGE) or code.co_name.startswith("<"):
        return
    if not code.co_flags & 0x2:  # a module's or a class's body
        return
    calls[f"{os.path.relpath(code.co_filename, PACKAGE)}:{code.co_qualname}"] += 1
    order.append(code.co_filename)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "double.py").write_text(UPDATER)
        os.chdir(scratch)
        one = figures_of(1)
        if "-v" in sys.argv:
            for name, number in calls.most_common():
                print(f"{number:6} {name}")
            print(*depths[0], sep="\n")
        frames = len(depths[0])
        many = figures_of(1 + MORE)
    more = {name: (many[name] - one[name]) / MORE for name in ("calls", "file_switches")}
    print(json.dumps({**one, "frames": frames, "more": more}))


def figures_of(number: int) -> dict[str, int]:
    """Run the command on so many entities, and count."""
    from bulkup import cli
    from bulkup.local.process import start_local

    for counted in (calls, order, depths):
        counted.clear()
    with start_local(None) as server:
        os.environ["DATASTORE_EMULATOR_HOST"] = server.host
        put_things(number)
        threading.setprofile(count)
        sys.setprofile(count)
        try:
            code = cli.call(["run", "double.py", "--project", "calls", "-q", "--new"])
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
        assert code == 0, code
    return {
        "calls": sum(calls.values()),
        "functions": len(calls),
        "files": len({name.partition(":")[0] for name in calls}),
        "file_switches": sum(a != b for a, b in itertools.pairwise(order)),
    }


def put_things(number: int) -> None:
    from google.cloud import datastore

    client = datastore.Client(project="calls")
    things = []
    for id_ in range(1, number + 1):
        entity = datastore.Entity(client.key("Thing", id_))
        entity["n"] = 1
        things.append(entity)
    client.put_multi(things)
    client.close()


if __name__ == "__main__":
    import benchmarks.calls as this  # one module, for the handler imports it too

    this.main()
