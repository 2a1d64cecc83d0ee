"""A plan as JSON: the line of `bulkup plan --json`, and the first line of a plan's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from bulkup.core.changes import change_fields, change_of
from bulkup.core.failure_groups import FailureGroup
from bulkup.core.model import TargetInfo
from bulkup.core.plan import (
    Bill,
    BillLine,
    ChangeKind,
    Drawn,
    Estimate,
    Forecast,
    Hazard,
    Plan,
    PlannedWork,
    PlanWarning,
    Predicted,
    PropertyKind,
    Total,
)
from bulkup.core.selection import Selection
from bulkup.core.typed_key import typed_key


def plan_fields(plan: Plan) -> dict[str, Any]:
    """All of a plan, ready for `json.dumps`."""
    work = plan.work
    return {
        "bulkup": work.version,
        "updater": work.updater,
        "description": work.description,
        "spec": work.spec,
        "checksum": work.checksum,
        "code": work.code,
        "params": dict(work.params),
        "target": asdict(work.target),
        "fingerprint": work.fingerprint,
        "identity": work.identity,
        "created": work.created.isoformat(),
        "sampled": plan.is_sample,
        "drawn": plan.drawn.value,
        "handled": plan.handled,
        "total": plan.total.value,
        "predicted": {name: asdict(estimate) for name, estimate in plan.predicted.named()},
        "kinds": [kind_fields(kind) for kind in plan.kinds],
        "more_kinds": plan.more_kinds,
        "failure_groups": [group_fields(group) for group in plan.failure_groups],
        "other_failures": plan.other_failures,
        "bill": None if plan.bill is None else bill_fields(plan.bill),
        "forecast": None if plan.forecast is None else asdict(plan.forecast),
        "round_trip_s": plan.round_trip_s,
        "warnings": [{"kind": w.hazard.value, "message": w.message} for w in plan.warnings],
        **({"selection": work.selection.stored()} if work.selection else {}),
    }


def group_fields(group: FailureGroup) -> dict[str, Any]:
    return {**asdict(group), "typed_keys": [typed_key(key) for key in group.keys]}


def kind_fields(kind: ChangeKind) -> dict[str, Any]:
    return {
        "action": kind.action,
        "kind": kind.kind,
        "types": [asdict(one) for one in kind.properties],
        "seen": kind.seen,
        "predicted": asdict(kind.predicted),
        "examples": [change_fields(example) for example in kind.examples],
    }


def bill_fields(bill: Bill) -> dict[str, Any]:
    cost, low, high = bill.total
    return {
        "lines": [{**asdict(line), "cost": line.cost(line.count.count)} for line in bill.lines],
        "currency": bill.currency,
        "region": bill.region,
        "source": bill.source,
        "as_of": bill.as_of,
        "cost": cost,
        "low": low,
        "high": high,
    }


def plan_of(line: Mapping[str, Any]) -> Plan:
    """The plan that `plan_fields` wrote as this line. Unknown fields are ignored.

    Raises KeyError, TypeError, ValueError for anything else.
    """
    return Plan(
        work=PlannedWork(
            updater=str(line["updater"]),
            description=str(line["description"]),
            spec=str(line["spec"]),
            checksum=str(line["checksum"]),
            code=str(line["code"]),
            params={str(name): str(value) for name, value in line["params"].items()},
            target=TargetInfo(**_known(TargetInfo, line["target"])),
            fingerprint=str(line["fingerprint"]),
            identity=str(line["identity"]),
            created=datetime.fromisoformat(line["created"]),
            version=str(line["bulkup"]),
            selection=Selection.of(line.get("selection", {})),
        ),
        drawn=Drawn(line["drawn"]),
        handled=int(line["handled"]),
        total=Total(line["total"]),
        predicted=Predicted(
            **{one.name: _estimate(line["predicted"][one.name]) for one in fields(Predicted)}
        ),
        kinds=tuple(map(_kind, line["kinds"])),
        more_kinds=int(line["more_kinds"]),
        failure_groups=tuple(map(_group, line["failure_groups"])),
        other_failures=int(line["other_failures"]),
        bill=None if line["bill"] is None else _bill(line["bill"]),
        forecast=(
            None if line["forecast"] is None else Forecast(**_known(Forecast, line["forecast"]))
        ),
        round_trip_s=None if line["round_trip_s"] is None else float(line["round_trip_s"]),
        warnings=tuple(
            PlanWarning(_hazard(w["kind"]), str(w["message"])) for w in line["warnings"]
        ),
    )


def _known(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    return {one.name: values[one.name] for one in fields(cls)}


def _estimate(values: Mapping[str, Any]) -> Estimate:
    return Estimate(int(values["count"]), int(values["low"]), int(values["high"]))


def _kind(values: Mapping[str, Any]) -> ChangeKind:
    return ChangeKind(
        str(values["action"]),
        str(values["kind"]),
        tuple(PropertyKind(**_known(PropertyKind, one)) for one in values["types"]),
        int(values["seen"]),
        _estimate(values["predicted"]),
        tuple(map(change_of, values["examples"])),
    )


def _group(values: Mapping[str, Any]) -> FailureGroup:
    known = _known(FailureGroup, values)
    return FailureGroup(**{**known, "keys": tuple(known["keys"])})


def _bill(values: Mapping[str, Any]) -> Bill:
    lines = tuple(
        BillLine(str(one["operation"]), _estimate(one["count"]), float(one["price"]))
        for one in values["lines"]
    )
    return Bill(lines, *(str(values[name]) for name in ("currency", "region", "source", "as_of")))


def _hazard(name: str) -> Hazard:
    """The hazard of that name; OTHER for one of a later version of bulkup."""
    return Hazard(name) if name in Hazard._value2member_map_ else Hazard.OTHER
