"""What a checkpoint says about its run as a whole: its state, its runners, its undos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from bulkup.core.errors import Exit
from bulkup.core.model import GateResult, RunState
from bulkup.core.plan_terms import PlanTerms
from bulkup.state.terms_codec import gate_from_json, plan_from_json


@dataclass(frozen=True)
class Status:
    """A run as its checkpoint knows it."""

    state: RunState
    reason: str | None
    """Why the last runner ended, if the run is not finished."""
    exit_code: Exit
    ended: str | None
    """ISO 8601, UTC."""
    took_s: float | None
    """How long the last runner worked; None: it was killed, or was an earlier bulkup version."""
    successor: str | None
    """The id of the run that was started by the end of this one."""
    runners: int
    """How many processes have worked on the run."""
    max_failures: int
    """The failure budget of the last runner."""
    over_budget: bool | None
    """Whether failures stopped it; None: it has not ended, or was an earlier bulkup version."""
    clean: bool
    """Whether the last runner knew the outcome of every commit it had sent when it ended."""
    file_id: str
    """Identifies this file. Copies of the file have the same id."""
    generation: int
    """The generation of the run record when this file was last in step with it; 0: never."""
    asked: dict[str, Any]
    """The options of the last runner that were not the defaults."""
    total: int | None
    """How many entities the query found when the run started; None: the server did not say."""
    gate: GateResult | None
    """The dry pass before the first write; None: none was asked for."""
    plan: PlanTerms | None
    """The plan that the run carries out; None: it has none."""
    undone_by: str | None = None
    """The id of the run that has put back what this one changed."""
    undone_by_all: tuple[str, ...] = ()
    """The ids of all such runs: one for each namespace, or for each part."""
    undos: tuple[str, ...] = ()
    """The ids of all runs that have begun to undo this one, since it was last brought back."""
    partly: bool = False
    """Whether the undo is incomplete: only some was put back, or others had changed some since."""
    brought_back_by: str | None = None
    """The id of the run that undid this run's undo."""

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Self:
        """`meta`: the values in the `meta` table."""
        return cls(
            state=RunState(meta["state"]),
            reason=meta["reason"] or None,
            exit_code=Exit(meta.get("exit_code") or 0),
            ended=meta.get("ended") or None,
            took_s=meta.get("took_s"),
            successor=meta.get("successor") or None,
            runners=int(meta["runners"]),
            max_failures=int(meta["max_failures"]),
            over_budget=meta.get("over_budget"),
            clean=bool(meta["clean"]),
            file_id=str(meta["file_id"]),
            generation=int(meta["generation"]),
            asked=dict(meta.get("asked") or {}),
            total=meta.get("total"),
            gate=gate_from_json(meta.get("gate")),
            plan=plan_from_json(meta.get("plan")),
            undone_by=meta.get("undone_by") or None,
            undone_by_all=tuple(meta.get("undone_by_all") or ()),
            undos=tuple(meta.get("undos") or ()),
            partly=bool(meta.get("partly")),
            brought_back_by=meta.get("brought_back_by") or None,
        )
