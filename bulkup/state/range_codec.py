"""The stored form of what a run record says about ranges."""

from __future__ import annotations

import base64
import math
from typing import Any

from bulkup.core.model import Counts, RunState
from bulkup.state.record import RangePart, RangePlan, StopOrder

MAX_REASON = 1000

_PLAN = frozenset(
    ("plan", "count", "edges", "base", "max_failures", "max_rate", "rate", "workers", "at",
     "finished", "total", "stop")
)  # fmt: skip
_PART = frozenset(("first", "last", "splits"))


def plan_of_ranges_to_json(plan: RangePlan) -> dict[str, Any]:
    """The plan as JSON values."""
    stop = plan.stop
    return {
        "plan": plan.plan,
        "count": plan.count,
        "edges": plan.edges,
        "base": plan.base.stored(),
        "max_failures": plan.max_failures,
        "max_rate": plan.max_rate,
        "rate": plan.rate,
        "workers": " ".join(plan.workers),
        "at": plan.at,
        "finished": plan.finished,
        "total": plan.total,
        "stop": [stop.state.value, stop.reason[:MAX_REASON], stop.exit_code] if stop else None,
    }


def plan_of_ranges_from_json(raw: Any) -> RangePlan | None:
    """Raises KeyError, TypeError, ValueError if `raw` is not a plan."""
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise TypeError("an object is expected")
    if raw.keys() > _PLAN:
        # A process that shares a run also writes its record, and would drop unknown fields.
        raise ValueError("a later version of bulkup has written it")
    stop = raw.get("stop")
    plan = RangePlan(
        plan=_text(raw["plan"]),
        count=_whole(raw["count"]),
        edges=_text(raw["edges"]),
        base=Counts(**raw["base"]),
        max_failures=_text(raw["max_failures"]),
        max_rate=_text(raw["max_rate"]),
        rate=float(raw["rate"]),
        workers=tuple(_text(raw["workers"]).split()),
        at=_whole(raw["at"]),
        finished=_whole(raw["finished"]),
        total=_whole(raw["total"]),
        stop=StopOrder(RunState(stop[0]), _text(stop[1])[:MAX_REASON], _whole(stop[2]))
        if stop
        else None,
    )
    if not (math.isfinite(plan.rate) and plan.rate >= 0 and plan.count > 0):
        raise ValueError("it is not cut into ranges")
    return plan


def part_to_json(part: RangePart) -> dict[str, Any]:
    """The part as JSON values, with its bounds in base64 like those of shards."""
    return {
        "first": base64.b64encode(part.first).decode(),
        "last": base64.b64encode(part.last).decode(),
        "splits": part.splits,
    }


def part_from_json(raw: Any) -> RangePart | None:
    """Raises KeyError, TypeError, ValueError if `raw` is not a part."""
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise TypeError("an object is expected")
    if raw.keys() > _PART:
        raise ValueError("a later version of bulkup has written it")
    first, last = base64.b64decode(raw["first"]), base64.b64decode(raw["last"])
    return RangePart(first, last, _whole(raw["splits"]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a string is expected")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a number is expected")
    return value
