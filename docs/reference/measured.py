"""What was measured: a table of the results in the repository, for a page that asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docs.reference.text import Missing, table

RESULTS = Path(__file__).parents[2] / "benchmarks/results/peers.json"
PLACE = "*(The site has a table here, made of `benchmarks/results/peers.json`.)*"
BEAM = "Beam, DatastoreIO"
ROWS = {
    "bulkup, class": "bulkup, with guards, markers and checkpoint",
    "official client, loop": "loop with the official client (`fetch`, `put_multi` of 500)",
    "ndb": "ndb (`fetch_page`, `put_multi`)",
    BEAM: "Beam's DatastoreIO, on the direct runner",
}
"""The rows shown, by their names in the results; Beam is measured where it is installed."""


def with_measurements(page: str) -> str:
    return page.replace(PLACE, measured()) if PLACE in page else page


def measured() -> str:
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    (part,) = [part for part in results["parts"] if part["name"] == "peers"]
    found = {row["name"]: row for row in part["rows"] if "entities_per_s" in row}
    if missing := ROWS.keys() - found.keys() - {BEAM}:
        raise Missing(f"{RESULTS.name} has no row {', '.join(sorted(missing))}")
    rows = [_row(shown, found[name]) for name, shown in ROWS.items() if name in found]
    measured_table = table(("", "entities a second", "client CPU for an entity", "memory"), rows)
    versions, day = results["versions"], results["when"][:10]
    named = ", ".join(f"{name} {versions[name]}" for name in sorted(versions) if name != "bulkup")
    return f"{measured_table}\n\nMeasured on {day}, {results['cores']} cores: {named}."


def _row(shown: str, row: dict[str, Any]) -> tuple[str, str, str, str]:
    speed, cpu = f"{row['entities_per_s']:,}", f"{row['cpu_us_per_entity']:.0f} µs"
    return shown, speed, cpu, f"{row['peak_mib']:.0f} MiB"
