"""OpenTelemetry: spans and metrics of a run, if the process has an SDK configured.

Names follow the semantic conventions for database clients
(https://opentelemetry.io/docs/specs/semconv/db/). These define no `db.system.name` for Datastore;
`gcp.datastore` is modeled on their name for Spanner.

    span     `bulkup run NAME`, and in it one for each attempt of a call that reads a page
             (`RunQuery KIND`) or commits a batch (`Commit PROJECT`)
    metrics  db.client.operation.duration, bulkup.entities, bulkup.retries, bulkup.conflicts

There are no spans for single entities. Without an SDK, nothing is imported and nothing is done.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bulkup.core.events import Event, Progress, Report, RunEnded, RunStarted
from bulkup.core.model import Counts, RunState
from bulkup.core.records import RunInfo
from bulkup.core.spans import Span, SpanKind
from bulkup.core.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer

SYSTEM = "gcp.datastore"
HTTPS_PORT = 443
BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""The buckets that the conventions give for db.client.operation.duration."""
OUTCOMES = ("written", "deleted", "unchanged", "left_alone", "vanished", "failed")


def telemetry_of(
    run_info: RunInfo, address: str, kind: str = "", *, monotonic: Callable[[], float]
) -> Telemetry | None:
    """The telemetry of a run; None if no SDK is configured. `kind`: the query's kind; empty:
    several, or all."""
    if "opentelemetry.trace" not in sys.modules and "opentelemetry.metrics" not in sys.modules:
        return None  # whoever configures an SDK imports at least one of them
    try:
        from opentelemetry import metrics, trace
    except ImportError:  # OpenTelemetry is installed only in part
        return None
    # The API's own providers do nothing, or wait for one that does.
    configured = [
        not type(provider).__module__.startswith(api.__name__)
        for provider, api in (
            (trace.get_tracer_provider(), trace),
            (metrics.get_meter_provider(), metrics),
        )
    ]
    if not any(configured):
        return None
    return Telemetry(
        trace.get_tracer("bulkup", __version__),
        metrics.get_meter("bulkup", __version__),
        run_info, address, kind,
        monotonic=monotonic,
    )  # fmt: skip


class Telemetry:
    """An observer of spans and a listener to events, for one runner."""

    def __init__(
        self,
        tracer: Tracer,
        meter: Meter,
        run_info: RunInfo,
        address: str,
        kind: str,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        from opentelemetry import trace

        self._tracer = tracer
        self._run_info = run_info
        self._kind = kind
        self._unix_minus_monotonic_ns = time.time_ns() - round(monotonic() * 1e9)
        target = run_info.target
        parts = (target.project, target.database, target.namespace)
        self._namespace = "|".join(filter(None, parts))
        host, _, port = address.rpartition(":")
        self._database: dict[str, Any] = {
            "db.system.name": SYSTEM,
            "db.namespace": self._namespace,
            "server.address": host or address,
        }
        if port.isdecimal() and int(port) != HTTPS_PORT:
            self._database["server.port"] = int(port)
        self._root = tracer.start_span(
            f"bulkup run {run_info.updater}",
            attributes={
                "bulkup.run.id": run_info.run_id,
                "bulkup.updater": run_info.updater,
                **self._database,
            },
        )
        self._context = trace.set_span_in_context(self._root)
        self._duration = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Duration of database client operations.",
            explicit_bucket_boundaries_advisory=BUCKETS_S,
        )
        self._entities = meter.create_counter(
            "bulkup.entities", "{entity}", "Entities of the query whose outcome is known."
        )
        self._conflicts = meter.create_counter(
            "bulkup.conflicts", "{entity}", "Entities handled again because somebody changed them."
        )
        self._retries = meter.create_counter("bulkup.retries", "{call}", "Calls sent again.")
        self._known = Counts()
        self._known_retries = 0
        self._report: Report | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make the run's span the parent of the spans in the user's handlers."""
        from opentelemetry import context, trace

        token = context.attach(self._context)
        state = RunState.INTERRUPTED
        try:
            yield
        except Exception:
            state = RunState.FAILED
            raise
        finally:
            context.detach(token)
            report, root = self._report, self._root
            state = report.state if report is not None else state
            root.set_attribute("bulkup.run.state", state.value)
            if report is not None:
                root.set_attribute("bulkup.run.handled", report.counts.handled)
                root.set_attribute("bulkup.run.failed", report.counts.failed)
                root.set_attribute("bulkup.run.retries", report.retries)
            if state is RunState.FAILED:
                root.set_attribute("error.type", "bulkup.failed")
                # No description: the reason may quote what an entity holds.
                root.set_status(trace.Status(trace.StatusCode.ERROR))
            root.end()

    def event(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._known = event.already
            self._root.set_attribute("bulkup.run.resumed", event.resumed)
            self._root.set_attribute("bulkup.run.dry_run", event.dry_run)
        elif isinstance(event, Progress):
            self._count(event.counts, event.retries)
        elif isinstance(event, RunEnded):
            self._report = event.report
            self._count(event.report.counts, event.report.retries)

    def _count(self, counts: Counts, retries: int) -> None:
        now, known = counts.named(), self._known.named()
        self._known = counts
        common = {"db.system.name": SYSTEM, "bulkup.updater": self._run_info.updater}
        for outcome in OUTCOMES:
            if (more := now[outcome] - known[outcome]) > 0:
                self._entities.add(more, {**common, "bulkup.outcome": outcome})
        if (more := now["conflicts"] - known["conflicts"]) > 0:
            self._conflicts.add(more, common)
        if (more := retries - self._known_retries) > 0:
            self._retries.add(more, common)
            self._known_retries = retries

    def span(self, span: Span) -> None:
        if span.kind not in (SpanKind.PAGE, SpanKind.COMMIT):
            return
        from opentelemetry import trace

        attributes = self._attributes(span)
        self._duration.record(max(0.0, span.ended - span.began), attributes)
        target = attributes.get("db.collection.name", self._namespace)
        made = self._tracer.start_span(
            f"{span.name} {target}",
            self._context,
            kind=trace.SpanKind.CLIENT,
            attributes={**attributes, **_sizes(span), "bulkup.shard": span.shard},
            start_time=self._unix_ns(span.began),
        )
        if span.error:
            made.set_status(trace.Status(trace.StatusCode.ERROR, span.error))
        made.end(self._unix_ns(span.ended))

    def _attributes(self, span: Span) -> dict[str, Any]:
        found = {**self._database, "db.operation.name": span.name}
        if self._kind and span.kind is SpanKind.PAGE:
            found["db.collection.name"] = self._kind
        if span.error:
            found["error.type"] = found["db.response.status_code"] = span.error
        return found

    def _unix_ns(self, moment: float) -> int:
        return round(moment * 1e9) + self._unix_minus_monotonic_ns


def _sizes(span: Span) -> Mapping[str, int]:
    sizes = {}
    if span.kind is SpanKind.COMMIT and span.entities > 1:
        sizes["db.operation.batch.size"] = span.entities
    if span.kind is SpanKind.PAGE and not span.error:
        sizes["db.response.returned_rows"] = span.entities
    if span.attempt > 1:
        sizes["bulkup.attempt"] = span.attempt
    return sizes
