"""`--gate clean` in several namespaces: the dry pass of all of them comes before the first write.

If the group was stopped before a namespace's run, the later command that starts this run gives it a
dry pass of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bulkup.core.events import Event, GatePassed, GroupEnded, Report, RunEnded
from bulkup.core.model import GateResult
from bulkup.datastore.containment import contained
from bulkup.datastore.target import Target
from bulkup.runs.context import RunContext
from bulkup.runs.gate import is_of_pass_alone, judged


def pass_gate_of_group(
    target: Target,
    context: RunContext,
    dry_run: Callable[[RunContext], Report],
    *,
    checked: bool,
) -> tuple[Report, GateResult]:
    """Dry-run all namespaces, and report the outcome to the listener. Raises BulkupError."""

    def listener(event: Event) -> None:
        if isinstance(event, RunEnded) or not is_of_pass_alone(event):
            context.listener(event)

    options = replace(context.options, dry_run=True, gate_pass=True)
    dry = replace(context, options=options, listener=listener, gate=False)
    with contained(dry.containment(target)):
        report, gate = judged(dry_run(dry), checked=checked)
    context.listener(GatePassed(gate) if gate.passed else GroupEnded(report))
    return report, gate


def gates_of(report: Report, gate: GateResult) -> dict[str, GateResult]:
    """Each namespace's part of the dry pass of all of them."""
    return {
        space.namespace: replace(gate, counts=space.counts, elapsed_s=0.0)
        for space in report.spaces
    }
