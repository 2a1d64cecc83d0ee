"""How many calls one entity takes, from `bulkup run` to its report: `python -m benchmarks.calls`.

Runs the command on one entity of an in-memory embedded Datastore (another process), with a profile
hook on every thread, and counts what happens in files of the package:

    calls           of Python functions; a generator counts once for each time it is resumed.
                    Module bodies, class bodies, comprehensions and lambdas do not count, nor does
                    what Jinja compiles the templates of the report's page to.
    functions       that were called
    files           that hold them
    file switches   calls whose file is not that of the call before
    without_report  the same without `report/`, which prints
    frames          of the package on the stack when the handler is called
    more            what each further entity adds, after the first 300, whose changes the report
                    looks at: calls and file switches

`-v` also prints how often each function was called, and the frames.
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

FEWER, MORE = 401, 451
"""Entities of the two runs whose difference is `more`."""

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
    if code.co_filename.endswith(".jinja"):
        return
    file = os.path.relpath(code.co_filename, PACKAGE)
    calls[f"{file}:{code.co_qualname}"] += 1
    order.append(file)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "double.py").write_text(UPDATER)
        os.chdir(scratch)
        run(1)
        one, without_report = figures(), figures(without="report/")
        if "-v" in sys.argv:
            for name, number in calls.most_common():
                print(f"{number:6} {name}")
            print(*depths[0], sep="\n")
        frames = len(depths[0])
        run(FEWER)
        fewer = figures()
        run(MORE)
        more = figures()
    each = {
        name: (more[name] - fewer[name]) / (MORE - FEWER) for name in ("calls", "file_switches")
    }
    print(json.dumps({**one, "without_report": without_report, "frames": frames, "more": each}))


def run(number: int) -> None:
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


def figures(without: str | None = None) -> dict[str, int]:
    """Of the last run. `without`: the folder whose files do not count."""

    def counts(name: str) -> bool:
        return without is None or not name.startswith(without)

    functions = [name for name in calls if counts(name)]
    return {
        "calls": sum(calls[name] for name in functions),
        "functions": len(functions),
        "files": len({name.partition(":")[0] for name in functions}),
        "file_switches": sum(a != b for a, b in itertools.pairwise(filter(counts, order))),
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
