"""Measurements side by side with peers, run by hand: `python -m benchmarks`, and
`python -m benchmarks.embedded` for the embedded Datastore."""
