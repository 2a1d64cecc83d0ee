"""OpenTelemetry, with the SDK's in-memory exporters: names by the conventions, nothing per entity,
and nothing at all without an SDK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import bulkup
from bulkup.core.spans import Span, SpanKind
from bulkup.runs.telemetry import Telemetry
from tests.cli.shell import BUMP, Shell, seed
from tests.conftest import Server
from tests.engine.conftest import Run, fill


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, InMemoryMetricReader]]:
    """An SDK as a program configures one; the API allows that once in a process, so it is told to
    look elsewhere."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
    monkeypatch.setattr(trace, "get_tracer", lambda *names: tracers.get_tracer(*names))
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: meters)
    monkeypatch.setattr(metrics, "get_meter", lambda *names: meters.get_meter(*names))
    yield spans, reader
    tracers.shutdown()
    meters.shutdown()


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_a_run_has_a_span_its_pages_and_commits_have_one_and_entities_none(
    embedded: Server, run: Run, exported: tuple[Any, InMemoryMetricReader]
) -> None:
    spans, reader = exported

    @bulkup.updater(kind="City", max_failures=-1)
    def visit(entity):  # type: ignore[no-untyped-def]
        if entity["i"] == 2:
            raise ValueError("secret value")
        with trace.get_tracer("users").start_as_current_span("geocode"):
            entity["seen"] = True
        return entity

    fill(embedded, "City", 30)
    report = run(embedded, visit, batch_size=10)
    done: tuple[ReadableSpan, ...] = spans.get_finished_spans()
    (root,) = [span for span in done if span.name == "bulkup run visit"]
    assert root.attributes is not None
    assert root.attributes["bulkup.run.id"] == report.run_id
    assert (root.attributes["bulkup.run.state"], root.attributes["bulkup.run.failed"]) == (
        "finished", 1,
    )  # fmt: skip
    pages = [span for span in done if span.name == "RunQuery City"]
    commits = [span for span in done if span.name == f"Commit {embedded.project}"]
    assert 3 <= len(pages) <= 5
    assert len(commits) == 3
    for span in (*pages, *commits):
        assert span.kind is trace.SpanKind.CLIENT
        assert span.parent is not None
        assert span.parent.span_id == root.context.span_id
        assert span.attributes is not None
        assert span.attributes["db.system.name"] == "gcp.datastore"
        assert span.attributes["db.namespace"] == embedded.project
        assert span.attributes["server.address"] == "127.0.0.1"
        assert span.attributes["server.port"] == int(embedded.host.rpartition(":")[2])
        assert span.start_time is not None
        assert span.end_time is not None
        assert root.start_time is not None
        assert root.end_time is not None
        # Clocks of two kinds, so to the millisecond.
        assert root.start_time - 10**6 <= span.start_time <= span.end_time <= root.end_time + 10**6
    assert {span.attributes["db.operation.batch.size"] for span in commits} == {10}
    assert sum(span.attributes["db.response.returned_rows"] for span in pages) == 30
    handlers = [span for span in done if span.name == "geocode"]
    assert {span.parent.span_id for span in handlers} == {root.context.span_id}
    assert len(done) == 1 + len(pages) + len(commits) + len(handlers)
    assert "secret value" not in "".join(span.to_json() for span in done)
    found = points(reader)
    outcomes = {p.attributes["bulkup.outcome"]: p.value for p in found["bulkup.entities"]}
    assert outcomes == {"written": 29, "failed": 1}
    durations = {
        point.attributes["db.operation.name"]: (point.count, point.explicit_bounds)
        for point in found["db.client.operation.duration"]
    }
    assert durations["Commit"][0] == 3
    assert durations["RunQuery"] == (len(pages), (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10))


def test_a_failed_call_has_its_status_as_error_type(
    exported: tuple[Any, InMemoryMetricReader], embedded: Server, run: Run
) -> None:
    spans, _ = exported
    made: list[Telemetry] = []
    from bulkup.runs import telemetry

    run(embedded, Nothing, allow_empty=True, dry_run=True)
    spans.clear()
    original = telemetry.Telemetry.event

    def event(self: Telemetry, one: Any) -> None:
        made.append(self)
        original(self, one)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telemetry.Telemetry, "event", event)
        run(embedded, Nothing, allow_empty=True, dry_run=True)
    made[0].span(Span(SpanKind.COMMIT, "Commit", 3, 1.0, 1.5, 7, 2, "UNAVAILABLE"))
    failed = spans.get_finished_spans()[-1]
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert failed.attributes["error.type"] == "UNAVAILABLE"
    assert failed.attributes["db.response.status_code"] == "UNAVAILABLE"
    assert failed.attributes["bulkup.attempt"] == 2
    assert failed.end_time - failed.start_time == 500_000_000


def test_the_span_of_a_run_that_cannot_be_made_ends(
    exported: tuple[Any, InMemoryMetricReader],
    embedded: Server,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Bug(Exception):
        pass

    def raises(*_: object, **__: object) -> None:
        raise Bug

    monkeypatch.setattr("bulkup.engine.runner_parts.choose_handlers", raises)
    with pytest.raises(Bug):
        run(embedded, Nothing, allow_empty=True)
    (root,) = exported[0].get_finished_spans()
    assert root.attributes["bulkup.run.state"] == "failed"
    assert root.status.status_code is trace.StatusCode.ERROR
    assert trace.get_current_span() is trace.INVALID_SPAN


class Nothing(bulkup.Updater):
    def get_query(self):  # type: ignore[no-untyped-def]
        return self.client.query(kind="Nothing")

    def handle_entity(self, entity):  # type: ignore[no-untyped-def]
        pass


def test_without_an_sdk_nothing_of_opentelemetry_is_imported(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, 3)
    shell = Shell(tmp_path, embedded)
    look = """
import atexit, sys
atexit.register(lambda: print(*[m for m in sys.modules if m.startswith("opentelemetry.")],
                              file=open("imported", "w")))
"""
    shell.write("bump.py", look + BUMP)
    assert shell.bulkup("run", "bump.py").code == 0
    assert (tmp_path / "imported").read_text().strip() == ""
