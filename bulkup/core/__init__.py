"""Shared by every package: the model of a run, its events, errors and the clock."""
