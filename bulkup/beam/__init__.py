"""bulkup on Apache Beam: the same updater, on as many machines as a Beam runner has.

    import apache_beam as beam
    import bulkup.beam

    with beam.Pipeline(options=options) as pipeline:
        reports = pipeline | bulkup.beam.Apply("add_full_name.py", project="my-shop")

Needs the extra `beam` (`pip install 'bulkup[beam]'`). `bulkup run UPDATER --on beam` does the same
from the command line. Beam schedules, Datastore decides: what is done, and whether a run is
finished, is read from the run's records, never taken from the runner.
"""

from importlib.util import find_spec

if find_spec("apache_beam") is None:
    raise ImportError("Apache Beam is not installed; install it with: pip install 'bulkup[beam]'")

from bulkup.beam.apply import Apply

__all__ = ["Apply"]
