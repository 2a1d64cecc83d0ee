"""One bulkup run against a stub, measured: prints one line of JSON.

    python -m benchmarks.run_bulkup HOST:PORT UPDATER [NAME=VALUE ...]

UPDATER is a name in benchmarks/updaters.py. NAME is a parameter of `bulkup.run` (in_flight=8), or
`p.NAME` one of the updater (p.every=2); values are JSON. `NAME?=VALUE` is left out where
`bulkup.run` has no such parameter. With `-` for HOST:PORT a stub is started
for this run, with `stub.NAME=VALUE` as its settings; so to see where the time goes:

    python -m cProfile -s tottime -m benchmarks.run_bulkup - Touch stub.entities=20000
"""

from __future__ import annotations

import inspect
import json
import sys
import tempfile
from typing import Any

from benchmarks.canned import PROJECT
from benchmarks.measure import measured
from benchmarks.stub import Settings, running


class NotYet(Exception):
    """This bulkup has no such option."""


def run(host: str, updater: str, given: dict[str, Any]) -> dict[str, Any]:
    """Raises NotYet for an option that `bulkup.run` does not have."""
    import bulkup
    import bulkup.engine.execution  # what bulkup opens lazily is not part of the measurement
    import bulkup.runs.start
    from benchmarks import updaters
    from bulkup.report.templating import compile_all

    compile_all()
    known = inspect.signature(bulkup.run).parameters
    params = {k[2:]: v for k, v in given.items() if k.startswith("p.")}
    options = {k: v for k, v in given.items() if not k.startswith("p.")}
    for name in list(options):
        if name.rstrip("?") in known:
            options[name.rstrip("?")] = options.pop(name)
        elif name.endswith("?"):
            del options[name]
        else:
            raise NotYet(f"bulkup.run has no parameter {name!r}")
    with tempfile.TemporaryDirectory(prefix="bulkup-benchmark-") as folder:

        def work() -> Any:
            return bulkup.run(
                getattr(updaters, updater),
                params=params,
                project=PROJECT,
                state_dir=folder,
                **options,
            )

        report, facts = measured(work, host)
    if not report.success:
        raise SystemExit(f"the run ended early: {report.reason}")
    counts = report.counts
    return {"entities": counts.handled, "failed": counts.failed, **facts}


def main() -> None:
    host, updater, *rest = sys.argv[1:]
    given = {name: json.loads(value) for name, _, value in (a.partition("=") for a in rest)}
    stub = {k[5:]: given.pop(k) for k in list(given) if k.startswith("stub.")}
    try:
        if host == "-":
            with running(Settings(**stub)) as server:
                print(json.dumps(run(server.host, updater, given)))
        else:
            print(json.dumps(run(host, updater, given)))
    except NotYet as missing:
        print(json.dumps({"absent": f"NOT YET ({missing})"}))


if __name__ == "__main__":
    main()
