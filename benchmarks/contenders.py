"""Who is measured, and how: rows, each round of each in a fresh process, turn by turn."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.stub import Running, Settings, running

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 600

FLOOR = "floor, one chain"
FLOOR_SHARDS = "floor, 8 shards"


@dataclass(frozen=True)
class Row:
    name: str
    settings: Settings
    """Rows with the same settings have the same stub."""
    module: str
    arguments: tuple[str, ...]
    floor: str = FLOOR
    """The row whose wall time this one's is compared with."""


def bulkup(name: str, updater: str, settings: Settings, *given: str, floor: str = FLOOR) -> Row:
    """`given`: options as benchmarks.run_bulkup takes them."""
    return Row(name, settings, "benchmarks.run_bulkup", (updater, *given), floor)


def peer(name: str, function: str, settings: Settings, entities: int | None = None) -> Row:
    """`entities`: fewer than the stub has, for somebody slow."""
    count = str(min(entities or settings.entities, settings.entities))
    floor = FLOOR_SHARDS if name == FLOOR_SHARDS else FLOOR
    return Row(name, settings, "benchmarks.run_peer", (function, count), floor)


@dataclass
class Result:
    """The rounds of a row; or why there are none."""

    row: Row
    rounds: list[dict[str, float]] = field(default_factory=list)
    trouble: str = ""

    def median(self, value: Callable[[dict[str, float]], float]) -> float:
        return median(value(one) for one in self.rounds)

    @property
    def wall_s_per_entity(self) -> float:
        return self.median(lambda one: one["wall_s"] / one["entities"])

    @property
    def rate(self) -> float:
        return 1 / self.wall_s_per_entity

    @property
    def cpu_us(self) -> float:
        return self.median(lambda one: one["cpu_s"] / one["entities"] * 1e6)

    @property
    def stub_us(self) -> float:
        return self.median(lambda one: one["stub_cpu_s"] / one["entities"] * 1e6)

    @property
    def peak_mib(self) -> float:
        return self.median(lambda one: one["peak_mib"])


def measure(
    rows: Sequence[Row], rounds: int, say: Callable[[str], None] = lambda _: None
) -> dict[str, Result]:
    """Let the rows take turns; gives their results by name."""
    results = {row.name: Result(row) for row in rows}
    with contextlib.ExitStack() as stack:
        stubs: dict[Settings, Running] = {}
        for number in range(1, rounds + 1):
            for row in rows:
                result = results[row.name]
                if result.trouble:
                    continue
                if row.settings not in stubs:
                    stubs[row.settings] = stack.enter_context(running(row.settings))
                try:
                    facts = _one_round(row, stubs[row.settings])
                except Trouble as trouble:
                    result.trouble = str(trouble)
                    say(f"{row.name}: {trouble}")
                    continue
                result.rounds.append(facts)
                say(f"round {number} of {rounds}: {row.name}: {facts['wall_s']:.2f} s")
    return results


class Trouble(Exception):
    """Nothing was measured."""


def _one_round(row: Row, stub: Running) -> dict[str, float]:
    stub.forget()
    before = stub.counts()
    command = [sys.executable, "-m", row.module, stub.host, *row.arguments]
    try:
        child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise Trouble(f"FAILED (not done after {TIMEOUT_S} s)") from None
    lines = child.stdout.splitlines()
    if child.returncode or not lines:
        last = child.stderr.strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
        raise Trouble(f"FAILED ({last[0][:200]})")
    facts: dict[str, Any] = json.loads(lines[-1])
    if "absent" in facts:
        raise Trouble(facts["absent"])
    after = stub.counts()
    read, written = (after[what] - before[what] for what in ("read", "mutations"))
    wanted = facts["entities"]
    if read < wanted or written < wanted - facts.get("failed", 0):
        raise Trouble(f"FAILED (read {read} and wrote {written} of {wanted})")
    facts["stub_cpu_s"] = after["cpu_s"] - before["cpu_s"]
    return {what: round(value, 4) for what, value in facts.items()}
