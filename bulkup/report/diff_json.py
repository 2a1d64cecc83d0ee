"""The JSON lines of `bulkup diff`: a `difference` per entity that differs, and `diff` at the
end."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bulkup.core.difference import DiffReport, EntityDifference, KindDiff, SideInfo
from bulkup.core.moment import read_time
from bulkup.core.typed_key import typed_key


def difference_fields(difference: EntityDifference) -> dict[str, Any]:
    values = [(one.name, *one.values()) for one in difference.changes if one.values is not None]
    return {
        "key": difference.key,
        "typed_key": typed_key(difference.key),
        "change": str(difference.change),
        "changes": [
            {"name": one.name, "a": one.before, "b": one.after} for one in difference.changes
        ],
        "values": [{"name": name, "a": a, "b": b} for name, a, b in values],
    }


def diff_fields(report: DiffReport) -> dict[str, Any]:
    return {
        "equal": not report.totals.different,
        "a": side_fields(report.a),
        "b": side_fields(report.b),
        **_counts(report.totals),
        "kinds": [
            {
                "kind": kind.kind,
                **_counts(kind),
                "by_property": [
                    {"name": one.name, "a": one.before, "b": one.after, "count": one.count}
                    for one in kind.properties
                ],
            }
            for kind in report.kinds
        ],
        "elapsed_s": report.elapsed_s,
        "exit_code": int(report.exit_code),
    }


def side_fields(side: SideInfo) -> dict[str, Any]:
    return {"target": asdict(side.target), "read_time": read_time(side.micros)}


def _counts(kind: KindDiff) -> dict[str, int]:
    names = ("same", "changed", "only_a", "only_b")
    return {name: getattr(kind, name) for name in names}
