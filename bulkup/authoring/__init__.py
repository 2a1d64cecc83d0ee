"""What users write, and how it is loaded: updaters, their parameters, unit tests."""
