"""Measurements side by side with peers. Each is run by hand: `python -m benchmarks.NAME`."""
