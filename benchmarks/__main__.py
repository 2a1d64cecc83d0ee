"""bulkup beside its peers, against a stub: one table, and a verdict on every bound.

    python -m benchmarks [--only NAME ...] [--rounds 3] [--entities N] [--quick] [--json FILE]

Exits with 0 when every check passes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bulkup
from benchmarks.checks import QUICK, SCENARIOS, Check, Scenario, Sizes
from benchmarks.contenders import ROOT, Result, measure

PACKAGES = (
    "grpcio", "protobuf", "google-cloud-datastore", "google-cloud-ndb", "apache-beam"
)  # fmt: skip
HEADING = (
    f"{'':34}{'entities':>10}{'wall':>10}{'entities/s':>12}{'x floor':>9}{'CPU µs':>8}"
    f"{'stub µs':>9}{'peak MiB':>10}"
)


def line(result: Result, results: Mapping[str, Result]) -> str:
    name = f"  {result.row.name:32}"
    if result.trouble:
        return f"{name}  {result.trouble}"
    entities, wall = result.rounds[0]["entities"], result.median(lambda one: one["wall_s"])
    floor = results.get(result.row.floor)
    ratio = "-"
    if floor is not None and not floor.trouble:
        ratio = f"{result.wall_s_per_entity / floor.wall_s_per_entity:.2f}"
    return (
        f"{name}{entities:>10,}{wall:>8.2f} s{result.rate:>12,.0f}{ratio:>9}"
        f"{result.cpu_us:>8.1f}{result.stub_us:>9.1f}{result.peak_mib:>10.0f}"
    )


def machine() -> dict[str, Any]:
    """Where this was measured, and with what."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((x.partition(":")[2].strip() for x in cpus if x.startswith("model name")), "?")
    total = Path("/proc/meminfo").read_text().split()[1]
    versions = {"bulkup": bulkup.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(int(total) / 1024**2),
        "load_before": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions,
    }


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (
        " and changes" if git("status", "--porcelain", "-uno") else ""
    )


def as_json(scenario: Scenario, results: Mapping[str, Result], checks: list[Check]) -> Any:
    rows = []
    for result in results.values():
        row: dict[str, Any] = {
            "name": result.row.name,
            "settings": asdict(result.row.settings),
            "command": [result.row.module, *result.row.arguments],
        }
        if result.trouble:
            row["trouble"] = result.trouble
        else:
            row |= {
                "entities_per_s": round(result.rate),
                "cpu_us_per_entity": round(result.cpu_us, 2),
                "stub_us_per_entity": round(result.stub_us, 2),
                "peak_mib": round(result.peak_mib, 1),
                "rounds": result.rounds,
            }
        rows.append(row)
    return {
        "name": scenario.name,
        "title": scenario.title,
        "rows": rows,
        "checks": [asdict(check) for check in checks],
    }


def main() -> int:
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=names, action="append", help="this part; several times")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each; the median counts")
    parser.add_argument("--entities", type=int, help="of the part `peers` (100,000)")
    parser.add_argument("--quick", action="store_true", help="small: shows that it works, no more")
    parser.add_argument("--json", help="write the numbers to this file too")
    options = parser.parse_args()
    sizes, rounds = (QUICK, 1) if options.quick else (Sizes(), options.rounds)
    if options.entities:
        sizes = replace(sizes, peers=options.entities)
    facts, parts, checks = machine(), [], []
    described = ", ".join(f"{name} {v}" for name, v in facts["versions"].items())
    print(f"{facts['cpu']}, {facts['cores']} cores; {described}; load {facts['load_before']}")
    print(HEADING, flush=True)
    for scenario in SCENARIOS:
        if options.only and scenario.name not in options.only:
            continue
        results = measure(
            scenario.rows(sizes),
            rounds if scenario.repeats else 1,
            lambda text: print(f"    {text}", file=sys.stderr, flush=True),
        )
        print(f"{scenario.name}: {scenario.title}")
        for result in results.values():
            print(line(result, results), flush=True)
        found = list(scenario.checks(results))
        checks += found
        parts.append(as_json(scenario, results, found))
    for check in checks:
        print(f"{'PASS' if check.passed else 'FAIL'}  {check.name}: {check.text}")
    if options.quick:
        print("--quick is a smoke test: what is fixed for a run weighs too much to judge by it")
    passed = all(check.passed for check in checks)
    if options.json:
        report = {**facts, "rounds": rounds, "quick": options.quick, "parts": parts}
        Path(options.json).write_text(json.dumps({**report, "passed": passed}, indent=2) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
