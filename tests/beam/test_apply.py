"""A run inside one's own pipeline."""

from __future__ import annotations

import pytest

pytest.importorskip("apache_beam", reason="Apache Beam is not installed")

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

import bulkup.beam
from bulkup.core.errors import UsageError
from tests.beam.conftest import BeamShell
from tests.conftest import Server


@pytest.fixture
def items(beam_shell: BeamShell, embedded: Server, monkeypatch: pytest.MonkeyPatch) -> BeamShell:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    monkeypatch.chdir(beam_shell.folder)
    beam_shell.seed(embedded, 300)
    return beam_shell


def test_a_pipeline_gets_the_report_of_its_run(items: BeamShell) -> None:
    with beam.Pipeline(options=PipelineOptions([])) as pipeline:
        reports = pipeline | bulkup.beam.Apply(
            "bump.py", project=items.server.project, ranges=4, params={"bad": 100}, max_failures=9
        )
        facts = reports | beam.Map(lambda r: (r.success, r.counts.handled, r.counts.failed))
        assert_that(facts, equal_to([(True, 300, 3)]))
    assert items.handled() == 297


def test_what_is_done_already_is_not_done_again(items: BeamShell) -> None:
    for _ in range(2):
        with beam.Pipeline(options=PipelineOptions([])) as pipeline:
            reports = pipeline | bulkup.beam.Apply(
                "bump.py", project=items.server.project, ranges=4, once=True
            )
            assert_that(reports | beam.Map(lambda r: r.success), equal_to([True]))
    items.once()


def test_a_run_that_stops_does_not_fail_the_pipeline(items: BeamShell) -> None:
    with beam.Pipeline(options=PipelineOptions([])) as pipeline:
        reports = pipeline | bulkup.beam.Apply(
            "bump.py", project=items.server.project, ranges=4, params={"bad": 2}, max_failures=1
        )
        assert_that(reports | beam.Map(lambda r: r.success), equal_to([False]))


def test_what_cannot_be_run_is_refused_as_the_pipeline_is_made(items: BeamShell) -> None:
    pipeline = beam.Pipeline(options=PipelineOptions([]))
    with pytest.raises(bulkup.BulkupError, match=r"nowhere\.py"):
        _ = pipeline | bulkup.beam.Apply("nowhere.py", project=items.server.project)
    with pytest.raises(UsageError, match="begins a pipeline"):
        _ = pipeline | beam.Create([1]) | "behind" >> bulkup.beam.Apply("bump.py")
    assert items.run_states() == []


def test_dataflow_accepts_the_pipeline(items: BeamShell) -> None:
    options = PipelineOptions(
        [
            "--runner=DataflowRunner", "--dry_run=True", "--project=shop", "--region=us-west1",
            "--temp_location=gs://shop-tmp/x", "--no_auth", "--job_name=bump",
        ]
    )  # fmt: skip
    pipeline = beam.Pipeline(options=options)
    _ = pipeline | bulkup.beam.Apply("bump.py", project=items.server.project, ranges=4)
    job = pipeline.run().job
    assert "beam:requirement:pardo:splittable_dofn:v1" in job.proto_pipeline.requirements
    assert items.handled() == 0
