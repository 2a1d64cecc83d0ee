"""Approvals: who approved which plan. One entity per piece of work, in its target's ledger.

An approval is for one run. Once used up or withdrawn, it is marked as such and kept: a late copy of
the commit that inserted it could bring a removed one back (see `state/seals.py`), and it documents
who approved what.

An approval is a record, not a signature: whoever can write to the Datastore can write one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from bulkup.core.errors import HeldError, StateError
from bulkup.core.model import TargetInfo
from bulkup.core.plan_terms import PlanTerms
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_text
from bulkup.datastore.messages import EntityPb, Pb
from bulkup.datastore.refusals import commit_answer
from bulkup.datastore.rpc import Rpc
from bulkup.state.kinds import APPROVAL_KIND
from bulkup.state.raw_entities import Stored, own_key, read_properties, write_properties
from bulkup.state.seals import guarded_write
from bulkup.state.terms_codec import plan_from_json, plan_to_json


@dataclass(frozen=True)
class Approval:
    """The approval of a plan. `version` 0: not in Datastore."""

    identity: str
    """Identifies the updater, its parameters and its query."""
    updater: str
    params: Mapping[str, str]
    fingerprint: str
    """Fingerprint of the query and the target."""
    terms: PlanTerms
    """The plan's terms, including who approved it and when."""
    spent: str = ""
    """Why it no longer allows a run, as the end of a sentence; empty: it still allows one."""
    version: int = field(default=0, compare=False)


class Approvals:
    """The approvals of one target."""

    def __init__(self, rpc: Rpc, target: TargetInfo) -> None:
        self._rpc = rpc
        self._target = target

    def read(self, identity: str) -> Approval | None:
        """The approval for a piece of work. Raises CallError; StateError if it is not valid."""
        for result in self._rpc.lookup([self._key(identity)]).values():
            return _parsed(result)
        return None

    def write(self, approval: Approval) -> Approval:
        """Write an approval over the one that was read. Raises HeldError if somebody else has
        changed it since, CallError."""
        entity = EntityPb(key=self._key(approval.identity))
        terms = approval.terms
        values: dict[str, Stored] = {
            # For people who read it in the cloud console.
            "updater": approval.updater,
            "parameters": json.dumps(dict(approval.params)),
            "plan": terms.plan_id,
            "who": terms.approved_by,
            "approved": datetime.fromtimestamp(terms.approved_at, timezone.utc),
            "spent": approval.spent,
            # For the run.
            "identity": approval.identity,
            "fingerprint": approval.fingerprint,
            "terms": json.dumps(plan_to_json(terms)),
        }
        write_properties(entity, values)
        mutation = guarded_write(entity, approval.version).SerializeToString()
        try:
            answer = commit_answer(self._rpc, self._rpc.commit([mutation]))
        except CallError as error:
            if error.unexplained or not error.claims_conflict:
                raise
            there = self.read(approval.identity)
            if there == approval:
                return there  # our write was applied, but its answer was lost
            raise HeldError(
                f"somebody else has just approved a plan of {approval.updater}; repeat the command "
                "to see which"
            ) from error
        return replace(approval, version=answer.mutation_results[0].version)

    def spend(self, identity: str, why: str, *, plan_id: str | None = None) -> None:
        """Mark an approval as used up or withdrawn. `plan_id`: only if it approves this plan.

        Raises CallError, HeldError, StateError.
        """
        there = self.read(identity)
        if there is None or there.spent or plan_id not in (None, there.terms.plan_id):
            return
        self.write(replace(there, spent=why))

    def _key(self, identity: str) -> Pb:
        return own_key(self._target, APPROVAL_KIND, identity)


def _parsed(result: Any) -> Approval:
    values = read_properties(result.entity)
    try:
        terms = plan_from_json(json.loads(values["terms"]))
        if terms is None or terms.plan_id != values["plan"] or not terms.approved_by:
            raise ValueError("its terms are of another plan")
        texts = [values[name] for name in ("identity", "updater", "fingerprint", "spent")]
        identity, updater, fingerprint, spent = map(_text, texts)
        if identity != result.entity.key.path[-1].name:
            raise ValueError("it is of other work")
        params = {str(k): str(v) for k, v in json.loads(values["parameters"]).items()}
        return Approval(
            identity, updater, params, fingerprint, terms, spent, version=result.version
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateError(
            f"the approval {key_text(result.entity.key)} was not written by this version of "
            "bulkup; delete it, and approve the plan again",
            details=f"{type(error).__name__}: {error}",
        ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a string is expected")
    return value
