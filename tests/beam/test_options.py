"""Beam's options, typed after `--`."""

from __future__ import annotations

import pytest

pytest.importorskip("apache_beam", reason="Apache Beam is not installed")

from bulkup.beam.launcher import pipeline_options
from bulkup.core.errors import UsageError


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--runner=NoSuchRunner"], "NoSuchRunner"),
        (["--runner=no.such.module.Runner"], "no.such.module"),
        (["--runner=tests.beam.runners.NoSuch"], "NoSuch"),
        (["--runer=DataflowRunner", "--project=p"], "--runer"),
        (["--direct_num_worker=4"], "--direct_num_worker"),
        (["--project=p", "stray"], "stray"),
        (["--direct_num_workers=many"], "lines above"),
    ],
)
def test_what_beam_does_not_know_is_refused(words: list[str], named: str) -> None:
    """Beam itself passes over it, and a mistyped runner would be the one on this machine."""
    with pytest.raises(UsageError, match=named):
        pipeline_options(words)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--runner=DirectRunner", "--direct_num_workers=2"],
        ["--runner=tests.beam.runners.DropsResiduals"],
        ["--runner=DaskRunner", "--dask_client_address=tcp://127.0.0.1:1"],
        ["--runner=FlinkRunner", "--flink_master=local", "--what-its-job-server-knows=1"],
    ],
)
def test_what_beam_knows_is_taken(words: list[str]) -> None:
    pipeline_options(words)
