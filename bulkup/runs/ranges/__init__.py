"""Runs that are cut into ranges, so that several processes and machines can work on one run."""
